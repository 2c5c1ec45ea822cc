"""Writing with a token model: the same from the command line and from Python."""

import argparse
import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.progress import track
from torch import Tensor

from kdlight.commands.parsing.arguments import check_output
from kdlight.commands.parsing.values import path_of
from kdlight.commands.shared.processes import Process
from kdlight.core.memory import check_fits
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.guidance import GuidedTokenDenoiser
from kdlight.discrete.samplers import TokenSample
from kdlight.discrete.text_generator import TextGenerator, writes_tokens
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.tokenizers import NumberTokenizer
from kdlight.teachers.checkpoint import models_of

SUFFIXES = (".txt", ".jsonl", ".npz")
SAMPLERS = ("first_hitting", "ancestral", "confidence")
"""What a masked model can sample by, beside its own way."""
STEPS = "steps of a masked model, at most a call each (default: the model's own)"
"""The help of ``--steps``."""
MASKS = re.compile(r"\[MASK(?::(\d+))?\]")
"""A gap of an infill: ``[MASK]`` is one token, ``[MASK:7]`` seven."""


@dataclass(frozen=True)
class Texts:
    """What a model wrote.

    Attributes:
        texts: A text a sample, up to the token that ends it; numbers where tokens are no text.
        tokens: (N, L) int64.
        calls: Network calls of each sample, (N,) int64.
        revealed_at: Call in which each token was revealed, from 1; 0 where it was given, (N, L).
    """

    texts: list[str]
    tokens: Tensor
    calls: Tensor
    revealed_at: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    def save(self, path: str | Path) -> Path:
        """Write a ``.txt``, ``.jsonl`` or ``.npz``, as ``kdlight generate`` does.

        Raises:
            InputError: Another suffix, or a place that takes no files.
        """
        path = path_of(path, "path")
        check_output(path, SUFFIXES)
        with atomic_path(path) as temporary:
            if path.suffix == ".npz":
                arrays: dict[str, Any] = {
                    name: getattr(self, name).numpy() for name in ("tokens", "calls", "revealed_at")
                }
                with temporary.open("wb") as stream:
                    np.savez_compressed(stream, **arrays)
            else:
                lines = self._objects() if path.suffix == ".jsonl" else self._headed()
                # Halves of a character that UTF-8 cannot write, as bytes may be sampled.
                text = "".join(f"{line}\n" for line in lines)
                temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        return path

    def _objects(self) -> list[str]:
        return [
            json.dumps({"index": index, "text": text, "tokens": tokens, "calls": calls})
            for index, (text, tokens, calls) in enumerate(
                zip(self.texts, self.tokens.tolist(), self.calls.tolist(), strict=True)
            )
        ]

    def _headed(self) -> list[str]:
        return [f"=== {index}\n{text}" for index, text in enumerate(self.texts)]


def add_sampler(to: argparse.ArgumentParser, **settings: Any) -> None:
    """The option ``--sampler`` of the verbs that write."""
    to.add_argument(
        "--sampler",
        choices=SAMPLERS,
        metavar="NAME",
        **{"default": None, **settings},
        help=f"{', '.join(SAMPLERS)} (default: the model's own)",
    )


def load_writer(checkpoint: Path, model: str | None = None) -> TextGenerator:
    """A model that writes tokens, of a checkpoint or an exported file.

    Raises:
        InputError: The file is missing or damaged, or holds no such model.
    """
    found = models_of(checkpoint)
    for name, each in found:
        if model in (None, name) and (writer := as_writer(each)) is not None:
            return writer
    known = ", ".join(f"{name} ({type(each).__name__})" for name, each in found)
    wanted = "a model" if model is None else f"a model called {model!r}"
    raise InputError(f"{checkpoint}: expected {wanted} that writes tokens, found {known}.")


def as_writer(model: torch.nn.Module) -> TextGenerator | None:
    """A model with what its tokens mean; without text, their numbers. None if it writes none."""
    generator = writes_tokens(model)
    if generator is None or isinstance(model, TextGenerator):
        return model if isinstance(model, TextGenerator) else None
    return TextGenerator(generator, NumberTokenizer(generator.vocabulary)).eval()


def with_sampler(generator: TokenGenerator, sampler: str | None) -> TokenGenerator:
    """The generator with another sampler.

    Raises:
        InputError: It cannot sample so.
    """
    if sampler in (None, generator.algorithm):
        return generator
    if sampler not in SAMPLERS:
        raise InputError(f"sampler: expected one of {', '.join(SAMPLERS)}, found {sampler!r}.")
    if type(generator) is not TokenGenerator:
        raise InputError(
            f"sampler: expected only {generator.algorithm} of this model, found {sampler!r}."
        )
    other = copy.copy(generator)
    other.algorithm = sampler  # type: ignore[assignment]
    return other


def start_of(writer: TextGenerator, prompt: str | None, infill: str | None) -> tuple[Tensor, int]:
    """What is given and what is masked, (L,), and how many tokens of it are asked for.

    Args:
        writer: The model.
        prompt: A text at the beginning.
        infill: A text with gaps, :data:`MASKS`; what the model writes behind it is not asked for.

    Raises:
        InputError: Both are given, they are longer than a sequence, or there is no gap.
    """
    if prompt is not None and infill is not None:
        raise InputError("prompt: expected a prompt or an infill, found both.")
    if infill is None:
        return writer.start([prompt or ""]), writer.generator.length
    parts: list[str | int] = []
    position = 0
    for gap in MASKS.finditer(infill):
        parts += [infill[position : gap.start()], int(gap[1] or 1)]
        position = gap.end()
    if not parts:
        raise InputError(f"infill: expected gaps such as [MASK] or [MASK:7], found {infill!r}.")
    parts.append(infill[position:])
    start = writer.start(parts)
    asked = sum(part if isinstance(part, int) else len(_encoded(writer, part)) for part in parts)
    return start, asked


def _encoded(writer: TextGenerator, text: str) -> list[int]:
    return writer.tokenizer.encode(text)


def check_steps(generator: TokenGenerator, option: str, asked: bool) -> None:
    """Raise :class:`InputError` where steps are asked of a model that writes token by token."""
    if asked and generator.algorithm == "autoregressive":
        raise InputError(f"{option}: expected none of a model that writes a token a call.")


def guided(generator: TokenGenerator, start: Tensor, scale: float) -> TokenGenerator:
    """The generator, pulled towards what is given in ``start`` (L,).

    Raises:
        InputError: Nothing is given, or the model is none of masked tokens.
    """
    given = start != generator.vocabulary
    if type(generator) is not TokenGenerator:
        raise InputError(
            f"guidance_scale: expected a masked model, found a {type(generator).__name__}."
        )
    if not bool(given.any()):
        raise InputError("guidance_scale: expected a prompt or an infill, found neither.")
    denoiser = GuidedTokenDenoiser(generator.denoiser, scale, given.tolist()).to(start.device)
    return TokenGenerator(denoiser, generator.algorithm, generator.steps).eval()


@torch.no_grad()
def write_texts(
    writer: TextGenerator,
    starts: Sequence[tuple[Tensor, int]],
    count: int,
    steps: int | None,
    seed: int,
    batch_size: int,
    process: Process,
    guidance: float = 0.0,
) -> Texts | None:
    """``count`` samples of each start, in order; row i is a function of (seed, i) alone.

    Args:
        writer: The model, on the process's device.
        starts: Of :func:`start_of`.
        count: Samples of each.
        steps: Number of steps; None for what the model was made for.
        seed: Seed of the set.
        batch_size: Samples at once.
        process: This process among those that share the work.
        guidance: How much a masked model is pulled towards what is given
            (:class:`~kdlight.discrete.guidance.GuidedTokenDenoiser`); 0 for not.

    Returns:
        All samples on the first process, None on the others.
    """
    generator = writer.generator
    total = count * len(starts)
    check_fits("num_samples", total, (generator.length,), copies=4)
    batches = [
        (number * count + first, min(batch_size, count - first), start)
        for number, (start, _) in enumerate(starts)
        for first in range(0, count, batch_size)
    ]
    found: dict[int, TokenSample] = {}
    shown = track(range(len(batches)), "writing", transient=True, disable=not process.speaks)
    for index in filter(process.mine, shown):
        first, size, start = batches[index]
        start = start.to(process.device)
        pulled = guided(generator, start, guidance) if guidance else generator
        sample = pulled(start.repeat(size, 1), seed, first, steps or 0)
        found[index] = TokenSample(
            sample.tokens.cpu(), sample.calls.cpu(), sample.revealed_at.cpu()
        )
    if process.world > 1:
        every: list[Any] = [None] * process.world
        dist.all_gather_object(every, found)
        found = {index: sample for part in every for index, sample in part.items()}
    if not process.speaks:
        return None
    ordered = [found[index] for index in range(len(batches))]
    tokens = torch.cat([sample.tokens for sample in ordered])
    asked = [asked for _, asked in starts for _ in range(count)]
    return Texts(
        [writer.text(row[:length]) for row, length in zip(tokens, asked, strict=True)],
        tokens,
        torch.cat([sample.calls for sample in ordered]),
        torch.cat([sample.revealed_at for sample in ordered]),
    )
