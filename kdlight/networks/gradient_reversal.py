"""The gradient reversal layer (Ganin & Lempitsky 2015, arXiv:1409.7495, section 3.2)."""

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


def reversed_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """``x`` itself, whose gradient comes back times ``-scale``.

    What lies behind it learns its loss, what lies before it learns the opposite. A loss that has a
    minus sign of its own beside it is learnt by both.
    """
    reversed_: Tensor = _Reversal.apply(x, scale)  # type: ignore[no-untyped-call]
    return reversed_
