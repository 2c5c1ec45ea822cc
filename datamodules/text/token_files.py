"""Codes of a neural codec as data: what ``kdlight encode`` wrote."""

from pathlib import Path

import torch

from datamodules.loader import Batch
from datamodules.order import positive
from datamodules.text.base import TokenDataModule, split_whole
from kdlight.core.ranges import PositiveInt
from kdlight.discrete.levels import interleaved
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.language.token_statistics import TokenStatistics
from kdlight.storage.folders import files_below
from kdlight.storage.tokens import Tokens, is_described, read_tokens


class TokenFilesDataModule(TokenDataModule):
    """Windows of token files, frame by frame, the levels of a frame in a row.

    The first ``given`` levels are not scored: a masked model learns to fill the others from them.
    The last window of a file ends where the file does and may share frames with the one before; a
    file that is shorter is filled up with code 0, which is not scored. A fixed seed says
    which files are held out.

    Args:
        path: Folder of ``.npz`` and ``.json`` files, folders below it included.
        codebook_size: Codes of a level.
        levels: Levels n_q that are read.
        given: Levels that are given.
        frames: Frames of a window.
        heldout: Share of the files that is held out.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the split does not depend on it.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        path: str,
        codebook_size: PositiveInt,
        levels: int = 8,
        given: int = 1,
        frames: PositiveInt = 32,
        heldout: float = 0.1,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not 0 <= given < positive("levels", levels):
            raise InputError(f"given: expected levels from 0 to {levels - 1}, found {given}.")
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.path = path
        self.codebook_size = codebook_size
        self.levels = levels
        self.given = given
        self.frames = frames
        self.heldout = heldout
        self.vocabulary = codebook_size * levels
        self.length = levels * frames

    def judges(self) -> list[SampleMetric]:
        """Pairs of neighbours against the held-out files, and how varied the samples are."""
        return [TokenStatistics(self.parts[1]["tokens"], self.vocabulary)]

    def read(self) -> tuple[Batch, Batch]:
        folder = Path(self.path)
        paths = list(filter(is_described, files_below(folder, (".npz",))))
        if len(paths) < 2:
            raise InputError(
                f"{folder}: expected at least 2 token files of kdlight encode, found {len(paths)}."
            )
        files = [(path, read_tokens(path)) for path in paths]
        digest = files[0][1].facts.codec_digest
        for path, tokens in files:
            facts = tokens.facts
            if facts.codebook_size != self.codebook_size or facts.n_q < self.levels:
                raise InputError(
                    f"{path}: expected {self.levels} levels of {self.codebook_size} codes, found "
                    f"{facts.n_q} of {facts.codebook_size}."
                )
            if facts.codec_digest != digest:
                raise InputError(f"{path}: expected tokens of the codec of {paths[0].name}.")
        training, heldout = split_whole([tokens for _, tokens in files], self.heldout)
        return self._rows(training), self._rows(heldout)

    def _rows(self, files: list[Tokens]) -> Batch:
        rows, counts = [], []
        for tokens in files:
            codes = tokens.codes[: self.levels]
            for start in starts_of(codes.shape[1], self.frames):
                window = codes[:, start : start + self.frames]
                counts.append(window.shape[1])
                window = torch.nn.functional.pad(window, (0, self.frames - window.shape[1]))
                rows.append(interleaved(window, self.codebook_size))
        lengths = torch.tensor(counts) * self.levels
        places = torch.arange(self.length)
        asked = places % self.levels >= self.given
        return {
            "tokens": torch.stack(rows),
            "mask": (places < lengths[:, None]) & asked,
            "lengths": lengths,
        }


def starts_of(frames: int, window: int) -> list[int]:
    """Where windows of a file begin, the last so that it ends with the file."""
    starts = list(range(0, max(frames - window, 0) + 1, window))
    if starts[-1] + window < frames:
        starts.append(frames - window)
    return starts
