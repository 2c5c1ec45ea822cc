"""What models say of sequences, row by row."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.losses.next_tokens import next_token_nll


class RowScores(NamedTuple):
    """Of sequences (B, T), each (B,) float64.

    Attributes:
        nll: -log of the probability of the row, in nats.
        margin: Mean over its tokens of the probability of the likeliest less that of the next.
    """

    nll: Tensor
    margin: Tensor


@torch.no_grad()
def row_scores(model: NextTokenModel, tokens: Tensor, real: Tensor) -> RowScores:
    """Score sequences under a model.

    Args:
        model: In evaluation mode.
        tokens: (B, T) int64.
        real: Which of them are no padding, (B, T) bool.
    """
    logits = model(tokens)
    nll = next_token_nll(logits, tokens).double()
    best = logits.double().softmax(dim=2).topk(2, dim=2).values
    margin = best[..., 0] - best[..., 1]
    weight = real.double()
    return RowScores(
        (nll * weight).sum(dim=1), (margin * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    )
