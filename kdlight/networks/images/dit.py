"""A small diffusion transformer (Peebles & Xie 2022, arXiv:2212.09748) with adaLN-Zero."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt, Probability
from kdlight.core.spec import Recorded, rebuilt
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.checkpointing import RecomputedBlock


def sinusoidal(position: Tensor, dim: int, longest: float = 10_000.0) -> Tensor:
    """Cosines and sines of ``position`` (N,), float32, at periods up to ``2 pi longest``.

    Args:
        position: Numbers of the order 0 to 1000.
        dim: Width of the output, even.
        longest: Inverse of the lowest angular frequency; the highest is 1.

    Returns:
        (N, dim).
    """
    half = dim // 2
    exponent = torch.arange(half, device=position.device, dtype=torch.float32) / half
    angle = position.float()[:, None] * torch.exp(-math.log(longest) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def grid_positions(height: int, width: int, dim: int) -> Tensor:
    """Fixed embedding of the places of a grid, (height * width, dim), rows then columns."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    half = dim // 2
    return torch.cat([sinusoidal(row.flatten(), half), sinusoidal(column.flatten(), half)], dim=1)


class DiTBlock(RecomputedBlock):
    """Attention and perceptron, scaled, shifted and gated by the embedding; starts as identity.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        ratio: Hidden width of the perceptron over ``width``.
        dropout: Dropout probability of both branches.
    """

    def __init__(self, width: int, heads: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, int(ratio * width)),
            nn.GELU(approximate="tanh"),
            nn.Linear(int(ratio * width), width),
        )
        self.dropout = nn.Dropout(dropout)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def attend(self, tokens: Tensor) -> Tensor:
        """Self-attention over tokens (B, N, width)."""
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(tokens).chunk(3, dim=2)
        )
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return self.project(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def evaluate(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        parts = self.modulation(embedding)[:, None].chunk(6, dim=2)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        inner = self.attention_norm(tokens) * (1 + scale) + shift
        tokens = tokens + gate * self.dropout(self.attend(inner))
        inner = self.mlp_norm(tokens) * (1 + mlp_scale) + mlp_shift
        return tokens + mlp_gate * self.dropout(self.mlp(inner))  # type: ignore[no-any-return]


class DiT(Recorded, nn.Module):
    """A diffusion transformer for images.

    Written here rather than taken from diffusers, whose ``DiTTransformer2DModel`` always wants a
    label, drops it at random with the global generator while training (here class dropout is the
    method's business, and a resumed run must be bit-equal), and gives every block an embedder of
    its own, which at small widths is most of the weights.

    The noise number goes through an embedding made for timesteps 0 to 1000, as in
    :class:`~kdlight.networks.images.unet.UNet2D`: ``noise_scale`` 1 for ``VPDenoiser``, about 250
    for ``EDMDenoiser``, 1000 for ``FlowDenoiser`` whose ``time_scale`` is 1.

    Args:
        size: Height and width of the image (one number if square), multiples of ``patch_size``.
        channels: Image channels.
        num_classes: Number of classes; 0 builds an unconditional network. A label of
            ``num_classes`` (or no label) means "no class".
        patch_size: Height and width of a patch, which becomes one token.
        width: Channels of a token, a multiple of 4 and of ``heads``.
        depth: Number of blocks.
        heads: Attention heads.
        ratio: Hidden width of the perceptrons over ``width``.
        dropout: Dropout probability inside each block.
        noise_scale: Factor on the noise number before its embedding.
    """

    positions: Tensor

    def __init__(
        self,
        size: PositiveInt | Sequence[PositiveInt] = 32,
        channels: PositiveInt = 3,
        num_classes: NonNegativeInt = 0,
        patch_size: PositiveInt = 2,
        width: PositiveInt = 128,
        depth: LayerCount = 4,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
        dropout: Probability = 0.0,
        noise_scale: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        rows, columns = (size, size) if isinstance(size, int) else size
        if rows % patch_size or columns % patch_size:
            raise InputError(
                f"size: expected multiples of patch_size {patch_size}, found {rows} x {columns}."
            )
        if width % 4 or width % heads:
            raise InputError(
                f"width: expected a multiple of 4 and of heads {heads}, found {width}."
            )
        self.shape = (channels, rows, columns)
        self.num_classes = num_classes
        self.noise_scale = noise_scale
        self.patch_size = patch_size
        self.patches = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        self.register_buffer(
            "positions",
            grid_positions(rows // patch_size, columns // patch_size, width),
            persistent=False,
        )
        self.noise_embedding = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.class_embedding = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.blocks = nn.ModuleList(DiTBlock(width, heads, ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, patch_size**2 * channels)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def of_width(self, factor: float) -> "DiT":
        """An untrained network as this one, with ``factor`` times the channels of a token.

        Raises:
            InputError: Heads do not divide them.
        """
        return rebuilt(self, width=round(factor * self._init_args["width"]))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network F.

        Args:
            x: Scaled noisy images, (B, C, H, W).
            noise: Noise conditioning c_noise or timestep, (B,).
            condition: May hold ``label`` (B,) integers.

        Returns:
            F of the same shape as ``x``.
        """
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        width = tokens.shape[2]
        embedding = self.noise_embedding(sinusoidal(noise * self.noise_scale, width).to(x.dtype))
        if self.class_embedding is not None:
            label = (condition or {}).get("label")
            if label is None:
                label = torch.full((len(x),), self.num_classes, device=x.device)
            embedding = embedding + self.class_embedding(label)
        embedding = nn.functional.silu(embedding)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=2)
        pixels = self.output(self.norm(tokens) * (1 + scale) + shift).transpose(1, 2)
        return nn.functional.fold(pixels, self.shape[1:], self.patch_size, stride=self.patch_size)
