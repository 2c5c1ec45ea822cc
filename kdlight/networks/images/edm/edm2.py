"""The network of EDM2, which preserves magnitudes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.checkpointing import RecomputedBlock
from kdlight.networks.images.edm.layout import (
    Stage,
    decoder_stages,
    encoder_stages,
    one_hot,
    shape_of,
)
from kdlight.networks.images.edm.magnitude import (
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    mp_sum,
    normalized,
)
from kdlight.networks.images.edm.resampling import Direction, Resample

HEAD_CHANNELS = 64
BALANCE = 0.3
LIMIT = 256


class EDM2Block(RecomputedBlock):
    """A residual block of EDM2 (arXiv:2312.02696, figure 2, configuration G).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        embedding_channels: Width of the embedding.
        encodes: Whether it is one of the encoder, which normalises pixels over their channels and
            widens before its branch.
        resample: Whether it halves or doubles height and width.
        attends: Whether it has attention, one head to every 64 channels.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int,
        encodes: bool,
        resample: Direction | None = None,
        attends: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if attends and out_channels % HEAD_CHANNELS:
            raise InputError(
                f"model_channels: expected a multiple of {HEAD_CHANNELS} wherever there is "
                f"attention, found {out_channels}."
            )
        self.encodes = encodes
        self.resample = Resample((1, 1), resample) if resample else nn.Identity()
        self.emb_gain = nn.Parameter(torch.zeros([]))
        inner = out_channels if encodes else in_channels
        self.conv_res0 = MPConv(inner, out_channels, 3)
        self.emb_linear = MPConv(embedding_channels, out_channels, 0)
        self.dropout = nn.Dropout(dropout)
        self.conv_res1 = MPConv(out_channels, out_channels, 3)
        same = in_channels == out_channels
        self.conv_skip = nn.Identity() if same else MPConv(in_channels, out_channels, 1)
        self.attn_qkv = MPConv(out_channels, 3 * out_channels, 1) if attends else None
        self.attn_proj = MPConv(out_channels, out_channels, 1) if attends else None

    def evaluate(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resample(x)
        if self.encodes:
            x = normalized(self.conv_skip(x), [1])
        hidden = self.conv_res0(mp_silu(x))
        scale = 1 + self.emb_linear(embedding, gain=self.emb_gain)
        hidden = mp_silu(hidden * scale[..., None, None].to(hidden.dtype))
        hidden = self.conv_res1(self.dropout(hidden))
        if not self.encodes:
            x = self.conv_skip(x)
        x = mp_sum(x, hidden, BALANCE)
        if self.attn_qkv is not None and self.attn_proj is not None:
            x = mp_sum(x, self.attn_proj(self.attend(self.attn_qkv(x))), BALANCE)
        return x.clip(-LIMIT, LIMIT)

    def attend(self, qkv: Tensor) -> Tensor:
        """Cosine attention over pixels, (B, 3 C, H, W) to (B, C, H, W).

        A channel of ``qkv`` stands for (head, channel of the head, query or key or value).
        """
        batch, channels, height, width = qkv.shape
        parts = qkv.reshape(batch, -1, HEAD_CHANNELS, 3, height * width)
        queries, keys, values = (part.transpose(2, 3) for part in normalized(parts, [2]).unbind(3))
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return mixed.transpose(2, 3).reshape(batch, channels // 3, height, width)


class EDM2UNet(Recorded, nn.Module):
    """EDM2 (Karras et al. 2024, arXiv:2312.02696), configuration G, for ``EDMDenoiser``.

    Latents of 512 x 512 images are of size 64 with 4 channels, brought to standard deviation 0.5.
    ``model_channels`` is 64 (XXS), 128 (XS), 192 (S), 256 (M), 320 (L), 384 (XL) or 448 (XXL);
    ``dropout`` is 0.1 from M on.

    Args:
        size: Height and width of the image (one number if square), multiples of
            ``2 ** (len(channel_mult) - 1)``.
        channels: Image channels.
        num_classes: Number of classes; 0 builds an unconditional network.
        model_channels: Channels at the full resolution.
        channel_mult: Channels of each resolution over ``model_channels``.
        num_blocks: Residual blocks at each resolution; the decoder has one more.
        attention: Heights at which all blocks have attention. The bottom of the decoder always
            has it.
        dropout: Dropout probability inside each block.
        null_class: Whether it was trained with labels left out. No released network was: their
            guidance takes a second network.
    """

    def __init__(
        self,
        size: PositiveInt | Sequence[PositiveInt] = 64,
        channels: PositiveInt = 4,
        num_classes: NonNegativeInt = 0,
        model_channels: PositiveInt = 192,
        channel_mult: Sequence[PositiveInt] = (1, 2, 3, 4),
        num_blocks: LayerCount = 3,
        attention: Sequence[NonNegativeInt] = (16, 8),
        dropout: Probability = 0.0,
        null_class: bool = False,
    ) -> None:
        super().__init__()
        height, width = shape_of(size, len(channel_mult))
        self.shape = (channels, height, width)
        self.num_classes = num_classes
        self.null_class = null_class
        widths = [model_channels * factor for factor in channel_mult]
        inner = max(widths)
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(widths[0])
        self.emb_noise = MPConv(widths[0], inner, 0)
        self.emb_label = MPConv(num_classes, inner, 0) if num_classes else None

        def block(stage: Stage, encodes: bool) -> EDM2Block:
            attends = stage.kind == "block" and stage.height in attention
            return EDM2Block(
                stage.in_channels,
                stage.out_channels,
                inner,
                encodes,
                stage.resample,
                attends or stage.kind == "in0",
                dropout,
            )

        # One more channel, of ones: nothing else has a bias.
        encoded = encoder_stages((height, width), channels + 1, widths[0], widths, num_blocks)
        self.enc = nn.ModuleDict()
        for stage in encoded:
            first = stage.kind == "conv"
            self.enc[stage.name] = (
                MPConv(channels + 1, widths[0], 3) if first else block(stage, True)
            )
        self.dec = nn.ModuleDict()
        for stage in decoder_stages((height, width), encoded, widths, num_blocks):
            self.dec[stage.name] = block(stage, False)
        self.out_conv = MPConv(widths[0], channels, 3)

    def embed(self, noise: Tensor, condition: Condition, x: Tensor) -> Tensor:
        """Joint embedding of noise number (B,) and class, (B, E)."""
        embedding = self.emb_noise(self.emb_fourier(noise).to(x.dtype))
        if self.emb_label is not None:
            label = one_hot(condition, self.num_classes, self.null_class, x)
            told = self.emb_label(label * math.sqrt(self.num_classes))
            embedding = mp_sum(embedding, told, 0.5)
        return mp_silu(embedding)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network F.

        Args:
            x: Scaled noisy images or latents, (B, C, H, W).
            noise: Noise conditioning c_noise, (B,).
            condition: May hold ``label`` (B,) integers.

        Returns:
            F of the same shape as ``x``.

        Raises:
            InputError: The label is missing and the network was never trained without.
        """
        embedding = self.embed(noise, condition or {}, x)
        skips = list[Tensor]()
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        for name, part in self.enc.items():
            x = part(x) if name.endswith("_conv") else part(x, embedding)
            skips.append(x)
        for name, part in self.dec.items():
            x = part(mp_cat(x, skips.pop()) if "_block" in name else x, embedding)
        output: Tensor = self.out_conv(x, gain=self.out_gain)
        return output
