"""The metric over :mod:`.information`: phones and speakers in the codes of each level."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kdlight.errors import InputError
from kdlight.metrics.tokens.information import (
    UNLABELLED,
    folds_within,
    held_out_folds,
    linear_probe,
    one_hot_rows,
    token_information,
)


class TokenMeaning(Metric):
    """Phones and speakers in the codes of each level, of all ranks.

    ``compute()`` returns, of (n_q,) each, float64,

    - ``phone_information``: :func:`token_information` about phones, a share, on held-out speakers;
    - ``phone_accuracy``: :func:`linear_probe` of phones from one-hot codes, on held-out speakers;
    - ``speaker_accuracy``: :func:`linear_probe` of speakers from how often an utterance has each
      code, on held-out utterances;

    and as scalars ``phone_chance``, ``speaker_chance`` and ``frames``, those with a phone. A figure
    is NaN where there are too few speakers or utterances for it. All codes stay in memory.

    Args:
        n_q: Number of levels.
        codebook_size: Codes of a level.
        folds: Folds of the cross-validation, at least 3.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, n_q: int, codebook_size: int, folds: int = 5) -> None:
        super().__init__()
        if folds < 3:
            raise InputError(f"folds: expected at least 3, found {folds}.")
        self.n_q, self.codebook_size, self.folds = n_q, codebook_size, folds
        # Rows of n_q codes, phone, speaker and utterance, stored flat: torchmetrics stands in for a
        # rank without data with a one-dimensional empty tensor.
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, codes: Tensor, phones: Tensor, speaker: int, utterance: int) -> None:
        """Add an utterance.

        Args:
            codes: (n_q, F) int64, none of it padding.
            phones: Phone of each frame, (F,) int64; -1 where there is none.
            speaker: Id of the speaker, the same on every rank.
            utterance: Id of the utterance, unique over all ranks.

        Raises:
            InputError: A shape or a code is another.
        """
        if codes.shape != (self.n_q, phones.shape[-1]) or phones.ndim != 1:
            raise InputError(
                f"codes and phones: expected ({self.n_q}, F) and (F,), "
                f"found {tuple(codes.shape)} and {tuple(phones.shape)}."
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise InputError(
                f"codes: expected 0 to {self.codebook_size - 1}, "
                f"found {int(codes.min())} to {int(codes.max())}."
            )
        ids = torch.tensor([[speaker], [utterance]], device=codes.device).expand(2, codes.shape[1])
        rows = torch.cat([codes.long(), phones[None].long().to(codes.device), ids])
        state: Any = self.rows
        state.append(rows.T.flatten())

    def compute(self) -> dict[str, Tensor]:
        """The figures by name."""
        rows = self._gathered()
        heard = rows[rows[:, self.n_q] != UNLABELLED]
        figures = {**self._phones(heard), **self._speakers(rows)}
        figures["frames"] = [float(len(heard))]
        return {
            name: torch.tensor(values if len(values) != 1 else values[0], dtype=torch.float64)
            for name, values in figures.items()
        }

    def information(self) -> Tensor:
        """``phone_information`` alone, (n_q,) float64, as for the units of a teacher."""
        rows = self._gathered()
        heard = rows[rows[:, self.n_q] != UNLABELLED]
        if len(torch.unique(heard[:, self.n_q + 1])) < self.folds:
            return torch.full((self.n_q,), torch.nan, dtype=torch.float64)
        fold = held_out_folds(heard[:, self.n_q + 1], self.folds)
        phones = heard[:, self.n_q]
        shares = [
            token_information(heard[:, level], phones, fold).share for level in range(self.n_q)
        ]
        return torch.tensor(shares, dtype=torch.float64)

    def _gathered(self) -> Tensor:
        """All rows (N, n_q + 3), in the same order whichever rank heard which utterance."""
        state: Any = self.rows
        empty = isinstance(state, list) and not state
        flat = torch.zeros(0, dtype=torch.int64) if empty else dim_zero_cat(state).cpu()
        rows = flat.reshape(-1, self.n_q + 3)
        return rows[torch.sort(rows[:, -1], stable=True).indices]

    def _phones(self, rows: Tensor) -> dict[str, list[float]]:
        codes, phones, speakers = rows[:, : self.n_q], rows[:, self.n_q], rows[:, self.n_q + 1]
        names = ("phone_information", "phone_accuracy")
        if len(torch.unique(speakers)) < self.folds:
            return {**dict.fromkeys(names, [math.nan] * self.n_q), "phone_chance": [math.nan]}
        fold = held_out_folds(speakers, self.folds)
        probes = [
            linear_probe(one_hot_rows(level[:, None], self.codebook_size), phones, fold)
            for level in codes.unbind(1)
        ]
        information = [token_information(level, phones, fold).share for level in codes.unbind(1)]
        accuracy = [probe.accuracy for probe in probes]
        return dict(zip(names, (information, accuracy), strict=True)) | {
            "phone_chance": [probes[0].chance]
        }

    def _speakers(self, rows: Tensor) -> dict[str, list[float]]:
        utterances, index = torch.unique(rows[:, -1], return_inverse=True)
        speakers = torch.zeros_like(utterances).scatter_(0, index, rows[:, self.n_q + 1])
        kinds, labels, counts = torch.unique(speakers, return_inverse=True, return_counts=True)
        if len(kinds) < 2 or int(counts.min()) < 2:
            return {"speaker_accuracy": [math.nan] * self.n_q, "speaker_chance": [math.nan]}
        fold = folds_within(labels, utterances, self.folds)
        probes = []
        for level in range(self.n_q):
            cells = index * self.codebook_size + rows[:, level]
            counted = torch.bincount(cells, minlength=len(utterances) * self.codebook_size)
            table = counted.view(len(utterances), -1).double()
            probes.append(linear_probe((table / table.sum(1, keepdim=True)).sqrt(), labels, fold))
        accuracy = [probe.accuracy for probe in probes]
        return {"speaker_accuracy": accuracy, "speaker_chance": [probes[0].chance]}
