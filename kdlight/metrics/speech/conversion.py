"""Classifiers that judge a converted voice: fitted to recordings, asked about conversions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class FittedProbe:
    """Multinomial logistic regression on standardised rows (scikit-learn).

    Args:
        rows: Features (N, D).
        labels: (N,) int64.
    """

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        self._model.fit(rows.double().numpy(), labels.numpy())

    def right(self, rows: Tensor, labels: Tensor) -> float:
        """Share of the rows (N, D) that are heard as their labels (N,), 0 to 1."""
        return float(np.mean(self._model.predict(rows.double().numpy()) == labels.numpy()))


def voice_row(mel: Tensor) -> Tensor:
    """Mean and deviation (2 D,) of a spectrogram (F, D) over frames: a voice, not its words."""
    return torch.cat([mel.mean(dim=0), mel.std(dim=0, correction=0)])


def spread(count: int, most: int) -> Tensor:
    """Places of at most ``most`` of ``count`` rows, evenly spread, int64."""
    return torch.linspace(0, count - 1, min(count, most)).long()
