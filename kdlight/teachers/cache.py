"""Features of frozen teachers on disk: computed once, read by every run and every process.

One small safetensors file an utterance, under a folder a teacher. A file's name is the hash of the
audio's bytes (or samples, or the text), the folder's the hash of what decides the features: class,
layers, preprocessing, sample rate, weights and the type they are kept in. So another teacher or
layer finds an empty folder, changed audio finds no file, and nothing stale is ever read. Inside,
each file repeats both hashes, and one that lies in a wrong place is refused.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import require_file, sha256_of, write_json
from kdlight.teachers.frames import FrameTeacher, FrozenTeacher, Source, Waveform

FORMAT = "kdlight-features-1"
DTYPES = {"float16": torch.float16, "float32": torch.float32}
# From 65520 on, float16 rounds to infinity.
LARGEST_HALF = 65_520.0


class FeatureCache:
    """What a teacher says about files or texts, kept on disk.

    Several processes may fill and read one folder: files appear whole or not at all, and two that
    compute the same one write the same bytes.

    Args:
        folder: Where; one folder serves many teachers and data sets.
        teacher: Who is asked. A teacher of audio is given files or samples, one of text strings.
        dtype: ``float16`` halves the size and rounds to 11 bits; ``float32`` keeps the bits that
            the teacher gave.

    Attributes:
        key: Hash of all that decides the features, in hexadecimal.

    Raises:
        InputError: The dtype is another.
    """

    def __init__(
        self, folder: Path, teacher: FrozenTeacher, dtype: Literal["float16", "float32"] = "float16"
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype: expected float16 or float32, found {dtype!r}.")
        self._teacher = teacher
        self._dtype = DTYPES[dtype]
        facts = {"format": FORMAT, "dtype": dtype, **teacher.identity()}
        if isinstance(teacher, FrameTeacher):
            facts |= {"sample_rate": teacher.sample_rate, "hop_length": teacher.hop_length}
        self._facts = facts
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.folder = folder / self.key[:16]
        self._hashes: dict[tuple[Path, int, int], str] = {}

    def content(self, source: Source) -> str:
        """Hash of a file's bytes, of a text or of samples; an unchanged file is read only once.

        Raises:
            InputError: The file is missing.
        """
        if isinstance(source, str):
            return hashlib.sha256(source.encode()).hexdigest()
        if isinstance(source, Waveform):
            return source.content
        require_file(source)
        status = source.stat()
        known = (source, status.st_size, status.st_mtime_ns)
        if known not in self._hashes:
            self._hashes[known] = sha256_of(source)
        return self._hashes[known]

    def path(self, source: Source) -> Path:
        """Where the features of a source lie, whether they are there or not."""
        content = self.content(source)
        return self.folder / content[:2] / f"{content}.safetensors"

    def fill(self, sources: Sequence[Source], rank: int = 0, world_size: int = 1) -> int:
        """Compute what is missing, with a progress bar; a stopped run goes on where it was.

        Args:
            sources: Files, texts or audio in memory.
            rank: Which of ``world_size`` shares of the sources this process takes.
            world_size: Processes that fill together; each then has only its own share for sure.

        Returns:
            Number of sources that were computed.

        Raises:
            InputError: A file is missing or no audio, or a feature is not finite.
        """
        if not 0 <= rank < world_size:
            raise InputError(f"rank: expected 0 to {world_size - 1}, found {rank}.")
        computed = 0
        own = sources[rank::world_size]
        for source in tqdm(own, desc="Asking the teacher", delay=2, leave=False, disable=None):
            if not self.path(source).is_file():
                self._compute(source)
                computed += 1
        return computed

    def get(self, source: Source) -> dict[str, Tensor]:
        """Features of a source, computed and kept if they are missing: the same bits either way."""
        if not self.path(source).is_file():
            self._compute(source)
        return self.read(source)

    def read(self, source: Source, start: int = 0, frames: int | None = None) -> dict[str, Tensor]:
        """Features of a source, float32, whole or a crop; only the crop is read from disk.

        Args:
            source: File, text or audio in memory.
            start: First frame of the crop. A crop of audio must start on a frame: at a sample that
                is a multiple of the hop.
            frames: Frames of the crop, fewer at the end; all, if None.

        Returns:
            What :meth:`~kdlight.teachers.frames.FrozenTeacher.describe` gave, by name. Tensors that
            have no frames, (D,), come whole.

        Raises:
            InputError: They were not computed for this teacher and content, or the file is damaged
                or was made for another.
        """
        path = self.path(source)
        if not path.is_file():
            raise InputError(
                f"{_named(source)}: no features of this teacher in {self.folder.parent}: "
                "another teacher or setting, or the file has changed: fill the cache."
            )
        stop = None if frames is None else start + frames
        try:
            with safe_open(path, framework="pt") as file:
                found = file.metadata() or {}
                for name, expected in (("key", self.key), ("content", self.content(source))):
                    if found.get(name) != expected:
                        raise InputError(
                            f"{path}: expected {name} {expected[:12]}, "
                            f"found {str(found.get(name))[:12]}: delete the file."
                        )
                tensors = {}
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    part = file.get_slice(name)
                    flat = len(part.get_shape()) == 1
                    tensors[name] = part[:] if flat else part[start:stop]
        except (SafetensorError, OSError):
            raise InputError(f"{path}: truncated or damaged: delete the file.") from None
        return {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }

    def _compute(self, source: Source) -> None:
        content = self.content(source)
        tensors = self._teacher.describe(source)
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                continue
            largest = tensor.abs().max().item() if tensor.numel() else 0.0
            # NaN fails every comparison.
            if not largest < (LARGEST_HALF if self._dtype == torch.float16 else float("inf")):
                raise InputError(
                    f"{_named(source)}: expected {name} that {self._dtype} can hold, "
                    f"found {largest:g}."
                )
            tensors[name] = tensor.to(self._dtype)
        if not (self.folder / "teacher.json").is_file():
            write_json(self.folder / "teacher.json", self._facts)
        path = self.folder / content[:2] / f"{content}.safetensors"
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with atomic_path(path) as temporary:
            save_file(contiguous, temporary, {"key": self.key, "content": content})


def _named(source: Source) -> str:
    if isinstance(source, Waveform):
        return source.name
    return str(source) if isinstance(source, Path) else f"text {source[:40]!r}"
