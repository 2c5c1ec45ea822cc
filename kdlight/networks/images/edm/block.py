"""The residual block of DDPM++, NCSN++ and ADM, with resampling and attention inside."""

from collections.abc import Sequence

from torch import Tensor, nn

from kdlight.networks.checkpointing import RecomputedBlock
from kdlight.networks.images.edm.resampling import Direction, Resample


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """At most 32 groups, with at least four channels in each where there are enough."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps)


class UNetBlock(RecomputedBlock):
    """Two convolutions around the embedding, a skip connection, and attention if it has heads.

    As in Score-SDE (Song et al. 2021, arXiv:2011.13456, appendix H) and ADM (Dhariwal & Nichol
    2021, arXiv:2105.05233, appendix A): resampling comes before the first convolution and on the
    skip connection, dropout before the second convolution alone.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        embedding_channels: Width of the embedding.
        resample: Whether it halves or doubles height and width.
        heads: Attention heads, 0 for none.
        dropout: Dropout probability.
        skip_scale: Factor on every sum of a branch and its skip connection.
        eps: Of the normalisations.
        scale_shift: Whether the embedding scales and shifts what is normalised (ADM), or is
            added before the normalisation.
        project_skip: Whether the skip connection of a resampling block has a convolution even
            where the channels do not change.
        taps: Filter of the resampling.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int,
        resample: Direction | None = None,
        heads: int = 0,
        dropout: float = 0.0,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        scale_shift: bool = False,
        project_skip: bool = False,
        taps: Sequence[float] = (1, 1),
    ) -> None:
        super().__init__()
        self.heads = heads
        self.skip_scale = skip_scale
        self.scale_shift = scale_shift
        self.resample = Resample(taps, resample) if resample else nn.Identity()
        self.norm0 = group_norm(in_channels, eps)
        self.conv0 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.affine = nn.Linear(embedding_channels, (1 + scale_shift) * out_channels)
        self.norm1 = group_norm(out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        projects = in_channels != out_channels or (project_skip and resample is not None)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if projects else nn.Identity()
        if heads:
            self.norm2 = group_norm(out_channels, eps)
            self.qkv = nn.Conv2d(out_channels, 3 * out_channels, 1)
            self.proj = nn.Conv2d(out_channels, out_channels, 1)

    def evaluate(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.conv0(self.resample(nn.functional.silu(self.norm0(x))))
        parameters = self.affine(embedding)[..., None, None]
        if self.scale_shift:
            scale, shift = parameters.chunk(2, dim=1)
            hidden = self.norm1(hidden) * (1 + scale) + shift
        else:
            hidden = self.norm1(hidden + parameters)
        hidden = self.conv1(self.dropout(nn.functional.silu(hidden)))
        x = (hidden + self.skip(self.resample(x))) * self.skip_scale
        if self.heads:
            x = (x + self.proj(self.attend(self.qkv(self.norm2(x))))) * self.skip_scale
        return x

    def attend(self, qkv: Tensor) -> Tensor:
        """Self-attention over pixels, (B, 3 C, H, W) to (B, C, H, W).

        A channel of ``qkv`` stands for (head, channel of the head, query or key or value).
        """
        batch, channels, height, width = qkv.shape
        parts = qkv.reshape(batch, self.heads, -1, 3, height * width).unbind(3)
        queries, keys, values = (part.transpose(2, 3) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return mixed.transpose(2, 3).reshape(batch, channels // 3, height, width)
