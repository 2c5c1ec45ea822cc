"""Finite scalar quantisation behind the interface of the quantisers."""

import math
from collections.abc import Sequence

import torch
import vector_quantize_pytorch
from torch import Tensor

from kdlight.codec.quantization import Quantized, Quantizer
from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError


class FSQ(Quantizer):
    """Finite scalar quantisation (arXiv:2309.15505): every channel is rounded to a few levels.

    No codebook is learned, so nothing collapses and there is no commitment. The grid is that of
    `vector-quantize-pytorch`, which passes the checks this project makes of one.

    Args:
        dim: Channels of the latents; a linear map takes them to ``len(levels)`` and back, unless
            they are as many.
        levels: Values of each channel, at least 3 each; their product is the codebook size.
    """

    def __init__(self, dim: PositiveInt, levels: Sequence[PositiveInt] = (8, 5, 5, 5)) -> None:
        if not levels or min(levels) < 3:
            raise InputError(f"levels: expected at least 3 values a channel, found {list(levels)}.")
        super().__init__(dim, 1, math.prod(levels))
        self.grid = vector_quantize_pytorch.FSQ(list(levels), dim=dim)

    def forward(self, latents: Tensor, n_q: int | Tensor | None = None) -> Quantized:
        self._used(latents, n_q)
        rounded, codes = self.grid(latents.transpose(1, 2))
        rounded, zero = rounded.transpose(1, 2), latents.new_zeros(())
        return Quantized(rounded, codes.long()[:, None], zero, (rounded,), zero)

    def encode(self, latents: Tensor, n_q: int | None = None) -> Tensor:
        return self.forward(latents, n_q).codes

    def decode(self, codes: Tensor) -> Tensor:
        self._count(codes.shape[1])
        latents: Tensor = self.grid.indices_to_codes(codes[:, 0].to(torch.int32))
        return latents.transpose(1, 2)
