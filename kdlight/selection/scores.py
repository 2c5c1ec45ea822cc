"""What models say of sequences, row by row."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.core.memory import rows_within
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
    at_once = rows_within(len(tokens), tokens.shape[1] * model.vocabulary)
    found = [_of_tokens(model, some) for some in torch.split(tokens, at_once)]
    nll, margin = (torch.cat(each) for each in zip(*found, strict=True))
    weight = real.double()
    return RowScores(
        (nll * weight).sum(dim=1), (margin * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    )


def _of_tokens(model: NextTokenModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Nats and margin of every token, (B, T) float64."""
    logits = model(tokens)
    best = logits.double().softmax(dim=2).topk(2, dim=2).values
    return next_token_nll(logits, tokens).double(), best[..., 0] - best[..., 1]
