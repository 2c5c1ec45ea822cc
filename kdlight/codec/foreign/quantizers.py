"""Quantisers of transformers' codecs: their own codes and vectors, and a gradient to train with.

Codebooks of a moving average (EnCodec, Mimi, X-Codec) stay as they are when the rest is trained,
so that tokens keep their meaning; DAC's are parameters, and learn as in its paper.
"""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from kdlight.codec.factorized import FactorizedVQ
from kdlight.codec.quantization import Quantizer, ResidualVQ, SplitResidualVQ
from kdlight.errors import InputError


class FixedCodebook(nn.Module):
    """One level whose codebook does not move.

    Args:
        level: With ``encode`` of (B, D, F) and ``decode`` of (B, F), as in transformers.
    """

    def __init__(self, level: Any) -> None:
        super().__init__()
        self.level = level

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest codes' vectors (B, D, F), without gradient, and the codes (B, F) int64."""
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            codes = self.encode(latents.float())
            return self.decode(codes), codes

    def encode(self, latents: Tensor) -> Tensor:
        """The nearest codes (B, F) of (B, D, F)."""
        codes: Tensor = self.level.encode(latents)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors (B, D, F) of codes (B, F)."""
        vectors: Tensor = self.level.decode(codes)
        return vectors


class FixedResidualVQ(ResidualVQ):
    """The residual quantiser of EnCodec and X-Codec, with fixed codebooks.

    Args:
        levels: Of transformers, in order.
        dim: Channels of the latents.
        codebook_size: Codes of a level.
    """

    def __init__(self, levels: Iterable[Any], dim: int, codebook_size: int) -> None:
        layers = [FixedCodebook(level) for level in levels]
        Quantizer.__init__(self, dim, len(layers), codebook_size)
        self.layers = nn.ModuleList(layers)

    def decode(self, codes: Tensor) -> Tensor:
        total = torch.zeros((), device=codes.device)
        layer: Any
        for level, layer in enumerate(self.layers[: self._count(codes.shape[1])]):
            total = total + layer.decode(codes[:, level])
        return total


class FixedSplitVQ(SplitResidualVQ):
    """Mimi's quantiser: a semantic level beside residual ones, with fixed codebooks.

    Args:
        quantizer: ``MimiModel.quantizer``.
        dim: Channels of the latents.
        codebook_size: Codes of a level.
        codebook_dim: Channels of a code.

    Raises:
        InputError: More than one level is semantic.
    """

    def __init__(self, quantizer: Any, dim: int, codebook_size: int, codebook_dim: int) -> None:
        if quantizer.num_semantic_quantizers != 1:
            raise InputError(
                "num_semantic_quantizers: expected 1, as in Mimi, "
                f"found {quantizer.num_semantic_quantizers}."
            )
        parts = (
            quantizer.semantic_residual_vector_quantizer,
            quantizer.acoustic_residual_vector_quantizer,
        )
        Quantizer.__init__(self, dim, quantizer.max_num_quantizers, codebook_size)
        self.project_in = nn.ModuleList(part.input_proj or nn.Identity() for part in parts)
        self.project_out = nn.ModuleList(part.output_proj or nn.Identity() for part in parts)
        self.semantic, self.acoustic = (
            FixedResidualVQ(part.layers, codebook_dim, codebook_size) for part in parts
        )

    def _apply(self, *args: Any) -> Self:
        # Mimi keeps its vectors in a plain attribute, which a move to a device would miss.
        for book in (layer.level.codebook for part in self._parts() for layer in part.layers):
            book._embed = None
        return super()._apply(*args)  # type: ignore[no-untyped-call, no-any-return]

    def _parts(self) -> tuple[Any, Any]:
        return self.semantic, self.acoustic


class DacLevel(nn.Module):
    """A level of DAC under the names of :class:`~kdlight.codec.factorized.FactorizedCodebook`.

    Args:
        level: ``DacVectorQuantize``.
    """

    def __init__(self, level: Any) -> None:
        super().__init__()
        self.level = level

    def project_in(self, latents: Tensor) -> Tensor:
        """Latents (B, D, F) to the channels of codes, (B, d, F)."""
        projected: Tensor = self.level.in_proj(latents)
        return projected

    def project_out(self, vectors: Tensor) -> Tensor:
        """Code vectors (B, d, F) to latents (B, D, F)."""
        latents: Tensor = self.level.out_proj(vectors)
        return latents

    def look_up(self, projected: Tensor) -> Tensor:
        """Codes (B, F) of projected latents (B, d, F)."""
        with torch.no_grad(), torch.autocast(projected.device.type, enabled=False):
            codes: Tensor = self.level.decode_latents(projected.float())[1]
        return codes

    def vectors(self, codes: Tensor) -> Tensor:
        """Code vectors (B, d, F) of codes (B, F)."""
        found: Tensor = self.level.codebook(codes)
        return found.transpose(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D, F) of codes (B, F)."""
        return self.project_out(self.vectors(codes))


class DacVQ(FactorizedVQ):
    """DAC's quantiser, codebooks learned by gradient.

    Args:
        levels: Of transformers, in order.
        dim: Channels of the latents.
        codebook_size: Codes of a level.
    """

    def __init__(self, levels: Iterable[Any], dim: int, codebook_size: int) -> None:
        layers = [DacLevel(level) for level in levels]
        Quantizer.__init__(self, dim, len(layers), codebook_size)
        self.layers = nn.ModuleList(layers)

    @torch.no_grad()
    def encode(self, latents: Tensor, n_q: int | None = None) -> Tensor:
        # The forward pass subtracts what the straight-through estimate rounds to, as DAC does.
        return self(latents, n_q).codes  # type: ignore[no-any-return]

    def decode(self, codes: Tensor) -> Tensor:
        layers: list[Any] = list(self.layers[: self._count(codes.shape[1])])
        total: Tensor = 0.0 + layers[0].decode(codes[:, 0])
        for level, layer in enumerate(layers[1:], start=1):
            # In place, as DAC does: a single frame then lies in memory in the same way, on which
            # depends how the next convolution rounds.
            total += layer.decode(codes[:, level])
        return total
