"""Several teachers of language as one."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.errors import InputError


class MixedTeacher(Recorded, nn.Module):
    """The mean of several teachers' laws of the next token.

    Args:
        teachers: Models of the same tokens.
        weights: What each counts; None for all alike.
        combine: ``probabilities``, the arithmetic mean, which covers what any of them says;
            ``logits``, the geometric, which holds what all of them say.

    Raises:
        InputError: There are no teachers, they have other vocabularies, or the weights do not fit.
    """

    def __init__(
        self,
        teachers: Sequence[nn.Module],
        weights: Sequence[float] | None = None,
        combine: Literal["probabilities", "logits"] = "probabilities",
    ) -> None:
        super().__init__()
        models = [each for each in teachers if isinstance(each, NextTokenModel)]
        sizes = {each.vocabulary for each in models}
        if len(models) < len(teachers) or len(sizes) != 1:
            others = [type(each).__name__ for each in teachers if each not in models]
            raise InputError(
                "teachers: expected models of next tokens of one vocabulary, found vocabularies "
                f"{[*sorted(sizes), *others]}."
            )
        shares = [1.0] * len(teachers) if weights is None else list(weights)
        if len(shares) != len(teachers) or min(shares) < 0 or not sum(shares):
            raise InputError(
                f"weights: expected {len(teachers)} numbers of at least 0 that are not all 0, "
                f"found {shares}."
            )
        self.teachers = nn.ModuleList(teachers)
        self.vocabulary, self.length = models[0].vocabulary, models[0].length
        self.shares = [share / sum(shares) for share in shares]
        self.combine = combine

    def _mixed(self, logits: list[Tensor]) -> Tensor:
        log_probs = torch.stack([each.log_softmax(dim=-1) for each in logits])
        share = log_probs.new_tensor(self.shares).reshape(-1, *[1] * (log_probs.ndim - 1))
        if self.combine == "logits":
            return (share * log_probs).sum(dim=0)
        return (log_probs + share.log()).logsumexp(dim=0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of token t given those before it, (B, T, V), of tokens (B, T)."""
        return self._mixed([teacher(tokens) for teacher in self.teachers])

    def following(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows tokens (B, T), (B, V)."""
        return self._mixed(
            [each.following(tokens) for each in self.teachers if isinstance(each, NextTokenModel)]
        )
