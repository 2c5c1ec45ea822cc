"""Pairs of noise and the sentence that it flows to under an autoregressive teacher, made once."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.core.frozen import digest
from kdlight.core.spec import spec_of
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.jumps import standard_normal
from kdlight.discrete.token_flow import TokenCodes, flow_to_sequences
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path

FORMAT = "kdlight-token-pairs-1"
KINDS = {"noise": "torch.float32", "tokens": "torch.int64"}
PART = 2000
"""Rows of a file."""


class TokenPairs:
    """Pairs in a folder of their own, in parts: what was interrupted goes on where it stopped.

    The folder's name says by which teacher, which codes, how many solver steps and which noise, so
    that pairs are found again and never stale. Row i is a function of the seed and of i: fewer
    pairs are the first of more.

    Args:
        teacher: Who writes: a generator of an autoregressive model.
        codes: The tokens' codes.
        count: Number of pairs.
        steps: Solver steps of the flow.
        seed: Seed of the noise.
        folder: Where the folders of pairs lie.

    Raises:
        InputError: The teacher does not write from left to right, the codes are of another
            vocabulary, or a number is below 1.
    """

    def __init__(
        self,
        teacher: TokenGenerator,
        codes: TokenCodes,
        count: int,
        steps: int = 20,
        seed: int = 0,
        folder: str | Path = "data/token_pairs",
    ) -> None:
        if min(count, steps) < 1:
            raise InputError(
                f"expected count and flow_steps of at least 1, found {count} and {steps}."
            )
        if teacher.algorithm != "autoregressive":
            raise InputError(
                "teacher: expected a model that writes from left to right, "
                f"found one that samples by {teacher.algorithm}."
            )
        if codes.vocabulary != teacher.vocabulary:
            raise InputError(
                f"codes: expected the teacher's vocabulary {teacher.vocabulary}, "
                f"found {codes.vocabulary}."
            )
        self.teacher, self.codes = teacher, codes
        self.count, self.steps, self.seed = count, steps, seed
        self.facts = {
            "format": FORMAT,
            "teacher": digest(teacher),
            "codes": digest(codes),
            "walk": json.dumps([spec_of(teacher), spec_of(codes)], sort_keys=True),
            "steps": str(steps),
            "seed": str(seed),
        }
        name = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(folder) / name

    def _parts(self) -> list[tuple[Path, range]]:
        starts = range(0, self.count, PART)
        return [
            (self.folder / f"{start:09d}.safetensors", range(start, start + PART))
            for start in starts
        ]

    def make(self, device: torch.device | str = "cpu") -> None:
        """Make the parts that are missing."""
        missing = [(path, rows) for path, rows in self._parts() if not path.is_file()]
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.teacher.to(device).eval()
        codes = self.codes.to(device)
        model = self.teacher.denoiser
        assert isinstance(model, NextTokenModel)
        with tqdm(total=self.count, desc="Making pairs", delay=2, leave=False, disable=None) as bar:
            bar.update((len(self._parts()) - len(missing)) * PART)
            for path, rows in missing:
                draws = RowDraws(torch.arange(rows.start, rows.stop, device=device), self.seed)
                noise = standard_normal(draws, self.teacher.length, codes.dimension)
                tokens = flow_to_sequences(model, noise, codes, self.steps)
                made = {"noise": noise.float().cpu(), "tokens": tokens.cpu()}
                with atomic_path(path) as temporary:
                    save_file(made, temporary, self.facts)
                bar.update(len(rows))

    def read(self) -> dict[str, Tensor]:
        """``noise`` (N, L, d) float32 and ``tokens`` (N, L) int64.

        Raises:
            InputError: A part is missing, damaged, or was made otherwise.
        """
        parts = [self._read(path) for path, _ in self._parts()]
        return {
            name: torch.cat([part[name] for part in parts])[: self.count]
            for name in ("noise", "tokens")
        }

    def _read(self, path: Path) -> dict[str, Tensor]:
        try:
            with safe_open(path, "pt") as stream:
                found = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            raise InputError(
                f"{path}: missing, truncated, or not a safetensors file; remove it, and it is made "
                "again."
            ) from None
        if found != self.facts:
            raise InputError(f"{path}: expected pairs of this teacher, these codes and this noise.")
        length, vocabulary = self.teacher.length, self.teacher.vocabulary
        shapes = {"noise": (PART, length, self.codes.dimension), "tokens": (PART, length)}
        there = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if there != shapes:
            raise InputError(f"{path}: expected tensors of shapes {shapes}, found {there}.")
        kinds = {name: str(tensor.dtype) for name, tensor in tensors.items()}
        if kinds != KINDS:
            raise InputError(f"{path}: expected tensors of {KINDS}, found {kinds}.")
        tokens = tensors["tokens"]
        inside = bool(((tokens >= 0) & (tokens < vocabulary)).all())
        if not inside or not bool(tensors["noise"].isfinite().all()):
            raise InputError(f"{path}: expected tokens below {vocabulary} and finite noise.")
        return tensors
