"""Filling the levels of a codec's tokens with a masked model: files in, files out."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdlight.commands.shared.trees import Told, each_in_turn, files_of, planned
from kdlight.core.noise import mix
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.levels import LevelDenoiser, interleaved, separated
from kdlight.errors import InputError
from kdlight.storage.folders import files_below
from kdlight.storage.tokens import Tokens, is_described, read_tokens, write_tokens


def fill_files(
    generator: TokenGenerator,
    inputs: Sequence[Path],
    output: Path,
    given: int,
    steps: int | None,
    seed: int,
    device: torch.device,
) -> None:
    """Write a token file with all levels for each that is read; prints the folder.

    Args:
        generator: Of interleaved codes.
        inputs: Token files and folders of them.
        output: The folder.
        given: Levels that are kept.
        steps: Sampling steps of a window; None for what the model was made for.
        seed: Seed; a file's result depends on it and on the file's own codes.
        device: Where.

    Raises:
        InputError: The model is none of interleaved codes, the levels are out of range, or files
            do not fit.
    """
    denoiser = generator.denoiser
    if not isinstance(denoiser, LevelDenoiser):
        raise InputError(
            "--codes: expected a model of a codec's levels (LevelDenoiser), found a "
            f"{type(denoiser).__name__}."
        )
    if not 1 <= given < denoiser.levels:
        raise InputError(f"--given: expected 1 to {denoiser.levels - 1} levels, found {given}.")

    def one(source: Path, target: Path, told: Told) -> None:
        tokens = read_tokens(source)
        facts = tokens.facts
        if facts.codebook_size != denoiser.codebook_size or facts.n_q < given:
            raise InputError(
                f"{source}: expected {given} levels of {denoiser.codebook_size} codes, found "
                f"{facts.n_q} of {facts.codebook_size}."
            )
        codes = filled(generator, tokens.codes[:given].to(device), steps, seed, told)
        known = replace(facts, n_q=denoiser.levels)
        write_tokens(target, Tokens(codes.cpu(), known, tokens.scales))

    each_in_turn(planned(inputs, output, _listed, ".npz"), one, output, "filling levels")


def _listed(path: Path) -> list[tuple[Path, Path]]:
    return files_of(path, lambda folder: list(filter(is_described, files_below(folder, (".npz",)))))


@torch.no_grad()
def filled(
    generator: TokenGenerator,
    given: Tensor,
    steps: int | None,
    seed: int,
    told: Told = lambda share: None,
) -> Tensor:
    """All levels of an utterance of which the first are given, (n_q, F) int64.

    Window by window from left to right; the last one ends with the utterance, and what it shares
    with the one before is given to it. A shorter utterance is filled up with code 0, as in
    training.

    Args:
        generator: Of interleaved codes.
        given: (n, F) int64.
        steps: Sampling steps of a window.
        seed: Seed; the draws depend on it and on ``given``.
        told: Called with the share that is done.
    """
    denoiser = generator.denoiser
    assert isinstance(denoiser, LevelDenoiser)
    size, levels, window = denoiser.codebook_size, denoiser.levels, denoiser.frames
    frames = max(given.shape[1], window)
    codes = torch.zeros(levels, frames, dtype=torch.int64, device=given.device)
    codes[: len(given), : given.shape[1]] = given
    known = torch.zeros_like(codes, dtype=torch.bool)
    known[: len(given)] = True
    known[:, given.shape[1] :] = True
    content = hashlib.sha256(given.cpu().numpy().tobytes()).digest()
    own = mix(seed, int.from_bytes(content[:8], "big"))
    for number, first in enumerate(range(0, frames, window)):
        start = min(first, frames - window)
        part = slice(start, start + window)
        row = interleaved(codes[:, part], size)
        seen = row.masked_fill(~known[:, part].T.flatten(), generator.vocabulary)
        found = generator(seen[None], own, number, steps or 0).tokens[0]
        codes[:, part] = separated(found, levels, size)
        known[:, part] = True
        told(min(1.0, (start + window) / frames))
    return codes[:, : given.shape[1]]
