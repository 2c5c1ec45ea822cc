"""Data of tokens with what a teacher says of every next one, which is asked once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from datamodules.loader import Batch, EvaluationLoader
from datamodules.text.base import TokenDataModule
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.metrics.base import SampleMetric
from kdlight.teachers.law_cache import LawCache


class TaughtDataModule(TokenDataModule):
    """Batches of other data, with ``teacher_tokens`` (B, L, K) and ``teacher_log_probs``.

    The teacher's likeliest tokens and the mass of the rest
    (:class:`~kdlight.teachers.law_cache.LawCache`) are written before training starts, by the first
    process; a run that was stopped meanwhile goes on where it was. The teacher is needed no more
    then: with ``teacher: null`` the folder is all that a run takes. Laws of another teacher,
    tokenizer or other data are refused.

    Args:
        data: The data.
        folder: Where the laws lie.
        teacher: Who is asked; None where the folder is complete.
        k: Tokens that are kept of each law; V or more keeps all.
        temperature: Of the teacher. FIRST recalibrates it with ``fitted_temperature`` of the
            teacher's row in ``summary.json``.
        dtype: Of the log-probabilities on disk.
        device: Where the teacher is asked.
    """

    def __init__(
        self,
        data: TokenDataModule,
        folder: str,
        teacher: nn.Module | None = None,
        k: int = 50,
        temperature: float = 1.0,
        dtype: Literal["float16", "float32"] = "float16",
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data.seed)
        self.data, self.folder, self.teacher = data, Path(folder), teacher
        self.k, self.temperature, self.dtype = k, temperature, dtype
        self.device = device
        self.vocabulary, self.length = data.vocabulary, data.length
        self.tokenizer = data.tokenizer

    def prepare_data(self) -> None:
        """Make missing laws, in one process, while the others wait."""
        if self.teacher is None or (self.trainer is not None and self.trainer.state.fn != "fit"):
            return
        known = "cuda" if torch.cuda.is_available() else "cpu"
        self._cache().make(self.teacher, known if self.device == "auto" else self.device)

    def setup(self, stage: str | None = None) -> None:
        """Read the laws before training starts, so that bad ones stop a run at once."""
        self.teacher = None
        if stage in (None, "fit"):
            _ = self.parts

    def read(self) -> tuple[Batch, Batch]:
        """Both parts of the data, the training part with the teacher's laws."""
        training, heldout = self.data.parts
        return training | self._cache().read(), heldout

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part of the data."""
        return EvaluationLoader(self.data.parts[1], self.batch_size, *self.ranks)

    def judges(self) -> list[SampleMetric]:
        """Those of the data."""
        return self.data.judges()

    def law(self) -> NextTokenModel | None:
        """That of the data."""
        return self.data.law()

    def _cache(self) -> LawCache:
        tokens = self.data.parts[0]["tokens"]
        return LawCache(
            self.folder,
            tokens,
            self.tokenizer,
            self.vocabulary,
            self.k,
            self.temperature,
            self.dtype,
        )
