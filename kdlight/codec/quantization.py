"""Vector quantisers of neural codecs behind one interface.

All take latents (B, D, F) and give a :class:`Quantized`. Four faults of published residual
quantisers, `encodec` 0.1.1 and the code derived from it (SpeechTokenizer, DM-Codec), are absent:

1. They start the sums of the moving average at the centroids instead of centroid times count, so
   the first update divides every k-means centroid by its cluster's size.
2. They revive a dead code in the codebook only; the moving average writes the dead one back in the
   same step.
3. They subtract the straight-through estimate from the residual, which cancels its gradient:
   commitment and features of every level but the first do not reach the encoder.
4. They average over the local batch of a rank, so codebooks drift apart between broadcasts.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdlight.codec.codebook import MovingAverageCodebook
from kdlight.core.ranges import LayerCount, NonNegativeFloat, NonNegativeInt, PositiveInt
from kdlight.core.ranks import joint_sum
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class Quantized(NamedTuple):
    """What a quantiser makes of latents.

    Attributes:
        latents: Sum of the levels (B, D, F); the gradient passes straight through to the encoder.
        codes: (B, n_q, F) int64.
        commitment_loss: Pulls the encoder to the codes, mean over levels, (); 0 without any.
        levels: What each level added, (B, D, F) each, with a straight-through gradient to the
            encoder of its own. Summed, these would carry it n_q times; ``latents`` does once.
        codebook_loss: Pulls learned codes to the encoder, (); 0 where a moving average does.
    """

    latents: Tensor
    codes: Tensor
    commitment_loss: Tensor
    levels: tuple[Tensor, ...]
    codebook_loss: Tensor


class Quantizer(Recorded, nn.Module):
    """Base of the quantisers.

    Args:
        dim: Channels D of the latents.
        n_q: Number of levels.
        codebook_size: Codes of a level.
    """

    def __init__(self, dim: PositiveInt, n_q: LayerCount, codebook_size: PositiveInt) -> None:
        super().__init__()
        self.dim = dim
        self.n_q = n_q
        self.codebook_size = codebook_size

    def forward(self, latents: Tensor, n_q: int | Tensor | None = None) -> Quantized:
        """Quantise, and in training move the codebooks.

        Args:
            latents: (B, D, F).
            n_q: Levels to use: a number, or one for each item, (B,); all by default. Levels that
                an item leaves out add nothing to its latents and losses; it has codes of all,
                and moves the codebooks of all.
        """
        raise NotImplementedError

    def encode(self, latents: Tensor, n_q: int | None = None) -> Tensor:
        """Codes (B, n_q, F) int64 of latents (B, D, F); nothing moves."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D, F) of codes (B, n, F), where n may be less than n_q."""
        raise NotImplementedError

    def _count(self, n_q: int | None) -> int:
        """How many levels ``n_q`` asks for."""
        if n_q is None:
            return self.n_q
        if not 1 <= n_q <= self.n_q:
            raise InputError(f"n_q: expected 1 to {self.n_q} levels, found {n_q}.")
        return n_q

    def _used(self, latents: Tensor, n_q: int | Tensor | None) -> tuple[int, Tensor | None]:
        """Levels to compute, and which items use which: (levels, B, 1, 1), None if all use all."""
        if not isinstance(n_q, Tensor):
            return self._count(n_q), None
        if n_q.shape != latents.shape[:1] or n_q.min() < 1 or n_q.max() > self.n_q:
            raise InputError(
                f"n_q: expected {len(latents)} numbers from 1 to {self.n_q}, found {n_q.tolist()}."
            )
        level = torch.arange(self.n_q, device=n_q.device)
        return self.n_q, (level[:, None] < n_q)[:, :, None, None]


def masked_mean(values: Tensor, used: Tensor | None) -> Tensor:
    """Mean of (B, D, F) over the items that ``used`` (B, 1, 1) names; 0 if none does.

    Ranks divide by the mean of their numbers of such items, so that the mean over ranks is the
    mean over the joint batch.
    """
    if used is None:
        return values.mean()
    number = used.sum().float()
    joint = joint_sum(torch.stack([number, torch.ones_like(number)]))
    return (values * used).sum() / (joint[0].clamp(min=1) / joint[1] * values[0].numel())


def encode_residually(layers: Iterable[Any], latents: Tensor) -> Tensor:
    """Codes (B, n, F) of latents (B, D, F), where every layer encodes what those before left."""
    codes = []
    for layer in layers:
        codes.append(layer.encode(latents))
        latents = latents - layer.decode(codes[-1])
    return torch.stack(codes, dim=1)


def decode_levels(layers: Iterable[Any], codes: Tensor) -> Tensor:
    """Sum (B, D, F) of what the layers decode of codes (B, n, F)."""
    parts = [layer.decode(codes[:, index]) for index, layer in enumerate(layers)]
    return torch.stack(parts).sum(dim=0)


class ResidualVQ(Quantizer):
    """Residual vector quantisation with moving-average codebooks.

    SoundStream (arXiv:2107.03312, algorithm 1), as EnCodec and SpeechTokenizer use it; with one
    level, the VQ of VQ-VAE-2. Level k quantises what levels below k left over. A level's
    commitment is ``mean((z_k - q_k)^2)``, q_k held; EnCodec sums it over levels, here it is the
    mean, so that a weight means the same for any ``n_q``.

    Args:
        dim: Channels of the latents.
        n_q: Number of levels.
        codebook_size: Codes of a level.
        decay: Of the moving average, for every training batch.
        expire_below: A code that is used less than this share of an even use is replaced by a
            frame of the batch. Mimi has 0.1; the fixed 2 of EnCodec and SpeechTokenizer is
            2 * codebook_size / frames of their joint batch (0.43 for EnCodec's 4,800 frames).
        kmeans_iterations: Lloyd steps on the first training batch, from which codebooks start.
        seed: Of the start and of the frames that replace codes.
    """

    def __init__(
        self,
        dim: PositiveInt,
        n_q: LayerCount,
        codebook_size: PositiveInt,
        decay: float = 0.99,
        expire_below: NonNegativeFloat = 0.1,
        kmeans_iterations: NonNegativeInt = 20,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(dim, n_q, codebook_size)
        self.layers = nn.ModuleList(
            MovingAverageCodebook(
                dim, codebook_size, decay, expire_below, kmeans_iterations, (seed, level)
            )
            for level in range(n_q)
        )

    def forward(self, latents: Tensor, n_q: int | Tensor | None = None) -> Quantized:
        return self.quantize(latents, *self._used(latents, n_q))

    def quantize(self, latents: Tensor, count: int, used: Tensor | None) -> Quantized:
        """:meth:`forward` with ``count`` levels, where ``used`` (count, B, 1, 1) says by whom."""
        # At least float32: residuals are differences, and small.
        residual = latents.to(torch.promote_types(latents.dtype, torch.float32))
        total = torch.zeros_like(residual)
        codes, levels, losses = [], [], []
        for index, layer in enumerate(self.layers[:count]):
            quantized, level_codes = layer(residual)
            items = None if used is None else used[index]
            losses.append(masked_mean((residual - quantized).square(), items))
            levels.append((residual + (quantized - residual).detach()).to(latents.dtype))
            codes.append(level_codes)
            total = total + (quantized if items is None else quantized * items)
            residual = residual - quantized
        return Quantized(
            (latents + (total - latents).detach()).to(latents.dtype),
            torch.stack(codes, dim=1),
            torch.stack(losses).mean(),
            tuple(levels),
            latents.new_zeros(()),
        )

    def encode(self, latents: Tensor, n_q: int | None = None) -> Tensor:
        return encode_residually(self.layers[: self._count(n_q)], latents)

    def decode(self, codes: Tensor) -> Tensor:
        return decode_levels(self.layers[: self._count(codes.shape[1])], codes)


class SplitResidualVQ(Quantizer):
    """One level for meaning beside a residual quantiser for the rest (Mimi, arXiv:2410.00037, 3.3).

    Both quantise the same latents through projections of their own, and their outputs add up: the
    acoustic levels need not repair what the semantic one leaves out.

    Args:
        dim: Channels of the latents.
        n_q: Number of levels in all, at least 2; level 1 is the semantic one.
        codebook_size: Codes of a level.
        codebook_dim: Channels in which both quantise.
        decay: See :class:`ResidualVQ`.
        expire_below: See :class:`ResidualVQ`.
        kmeans_iterations: See :class:`ResidualVQ`.
        seed: See :class:`ResidualVQ`.
    """

    def __init__(
        self,
        dim: PositiveInt,
        n_q: LayerCount,
        codebook_size: PositiveInt,
        codebook_dim: PositiveInt = 256,
        decay: float = 0.99,
        expire_below: NonNegativeFloat = 0.1,
        kmeans_iterations: NonNegativeInt = 20,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(dim, n_q, codebook_size)
        if n_q < 2:
            raise InputError(f"n_q: expected at least 2 levels to split, found {n_q}.")
        rest = (codebook_size, decay, expire_below, kmeans_iterations)
        self.semantic = ResidualVQ(codebook_dim, 1, *rest, seed)
        self.acoustic = ResidualVQ(codebook_dim, n_q - 1, *rest, seed + 1)
        self.project_in = nn.ModuleList(
            nn.Conv1d(dim, codebook_dim, 1, bias=False) for _ in range(2)
        )
        self.project_out = nn.ModuleList(
            nn.Conv1d(codebook_dim, dim, 1, bias=False) for _ in range(2)
        )

    def forward(self, latents: Tensor, n_q: int | Tensor | None = None) -> Quantized:
        count, used = self._used(latents, n_q)
        first = self.semantic(self.project_in[0](latents))
        total = self.project_out[0](first.latents)
        codes, levels = [first.codes], [self.project_out[0](first.levels[0])]
        losses = [first.commitment_loss]
        if count > 1:
            items = None if used is None else used[1:]
            rest = self.acoustic.quantize(self.project_in[1](latents), count - 1, items)
            second = self.project_out[1](rest.latents)
            total = total + (second if items is None else second * items[0])
            codes.append(rest.codes)
            levels += [self.project_out[1](level) for level in rest.levels]
            losses += [rest.commitment_loss] * (count - 1)
        return Quantized(
            total,
            torch.cat(codes, dim=1),
            torch.stack(losses).mean(),
            tuple(levels),
            latents.new_zeros(()),
        )

    def encode(self, latents: Tensor, n_q: int | None = None) -> Tensor:
        count = self._count(n_q)
        codes = [self.semantic.encode(self.project_in[0](latents))]
        if count > 1:
            codes.append(self.acoustic.encode(self.project_in[1](latents), count - 1))
        return torch.cat(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        count = self._count(codes.shape[1])
        latents: Tensor = self.project_out[0](self.semantic.decode(codes[:, :1]))
        if count > 1:
            latents = latents + self.project_out[1](self.acoustic.decode(codes[:, 1:]))
        return latents
