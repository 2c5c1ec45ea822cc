"""DDPM++ and NCSN++, the U-Nets of Score-SDE, as EDM trains them."""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveInt, Probability
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.images.edm.block import UNetBlock, group_norm
from kdlight.networks.images.edm.layout import (
    augmentation,
    decoder_stages,
    encoder_stages,
    initialise_xavier,
    one_hot,
    shape_of,
    sines_first,
)
from kdlight.networks.images.edm.resampling import ConvThenDown
from kdlight.networks.lora import EDMNetwork

GAINS = {"conv1": 1e-5, "proj": 1e-5, "aux_conv": 1e-5, "qkv": math.sqrt(0.2)}


class PositionalFeatures(nn.Module):
    """Cosines and sines of a number at frequencies from 1 down to 1 / 10,000, both included.

    Args:
        dim: Width, even and above 2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.count = dim // 2

    def forward(self, number: Tensor) -> Tensor:
        """(B,) to (B, dim), float32."""
        ramp = torch.arange(self.count, device=number.device, dtype=torch.float32) / (
            self.count - 1
        )
        angle = number.float()[:, None] * (1 / 10_000) ** ramp
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class RandomFeatures(nn.Module):
    """Cosines and sines of a number at fixed random frequencies.

    Args:
        dim: Width, even.
        scale: Standard deviation of the frequencies.
    """

    freqs: Tensor

    def __init__(self, dim: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("freqs", scale * torch.randn(dim // 2))

    def forward(self, number: Tensor) -> Tensor:
        """(B,) to (B, dim), float32."""
        angle = number.float()[:, None] * (2 * math.pi * self.freqs.float())
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class SongUNet(EDMNetwork):
    """DDPM++ and NCSN++ (Song et al. 2021, arXiv:2011.13456), as in EDM (arXiv:2206.00364, F.1).

    The defaults are EDM's DDPM++ for CIFAR-10, for ``EDMDenoiser``. Its NCSN++ has
    ``embedding: fourier``, ``noise_width: 2``, ``encoder: residual`` and ``taps: [1, 3, 3, 1]``.
    For images of 64 x 64 both have ``channel_mult: [1, 2, 2, 2]``.

    Args:
        size: Height and width of the image (one number if square), multiples of
            ``2 ** (len(channel_mult) - 1)``.
        channels: Image channels.
        num_classes: Number of classes; 0 builds an unconditional network.
        augment_dim: Width of the augmentation vector, 9 for EDM's augmentation; a missing vector
            means "not augmented".
        model_channels: Channels of the first convolution; the embedding has four times as many.
        channel_mult: Channels of each resolution over ``model_channels``.
        num_blocks: Residual blocks at each resolution; the decoder has one more.
        attention: Heights at which encoder blocks, and the last decoder block, have attention
            over all their channels in one head. The bottom of the decoder always has it.
        dropout: Dropout probability inside each block.
        embedding: Fixed frequencies (DDPM++) or random ones (NCSN++) of the noise number.
        noise_width: Width of that embedding over ``model_channels``.
        encoder: ``residual`` adds at each halving what a convolution makes of the smaller image.
        taps: Filter of all resampling.
        null_class: Whether it was trained with labels left out: the label ``num_classes``, or a
            missing one, is then "no class".
        learned_variance: Whether the last convolution has as many channels more, the learned
            variance of DDPM, which is not given out.
        fourier_scale: Standard deviation of the random frequencies: 16, or 0.02 for improved
            consistency training (arXiv:2310.14189, section 3.1), so that the embedding hardly
            moves between neighbouring levels.
    """

    def __init__(
        self,
        size: PositiveInt | Sequence[PositiveInt] = 32,
        channels: PositiveInt = 3,
        num_classes: NonNegativeInt = 0,
        augment_dim: NonNegativeInt = 0,
        model_channels: PositiveInt = 128,
        channel_mult: Sequence[PositiveInt] = (2, 2, 2),
        num_blocks: LayerCount = 4,
        attention: Sequence[NonNegativeInt] = (16,),
        dropout: Probability = 0.13,
        embedding: Literal["positional", "fourier"] = "positional",
        noise_width: PositiveInt = 1,
        encoder: Literal["standard", "residual"] = "standard",
        taps: Sequence[float] = (1, 1),
        null_class: bool = False,
        learned_variance: bool = False,
        fourier_scale: float = 16.0,
    ) -> None:
        super().__init__()
        height, width = shape_of(size, len(channel_mult))
        if embedding not in ("positional", "fourier"):
            raise InputError(f"embedding: expected positional or fourier, found {embedding!r}.")
        if encoder not in ("standard", "residual"):
            raise InputError(f"encoder: expected standard or residual, found {encoder!r}.")
        self.shape = (channels, height, width)
        self.num_classes = num_classes
        self.augment_dim = augment_dim
        self.null_class = null_class
        features, inner = noise_width * model_channels, 4 * model_channels
        self.map_noise = (
            PositionalFeatures(features)
            if embedding == "positional"
            else RandomFeatures(features, fourier_scale)
        )
        self.map_label = nn.Linear(num_classes, features) if num_classes else None
        self.map_augment = nn.Linear(augment_dim, features, bias=False) if augment_dim else None
        self.map_layer0 = nn.Linear(features, inner)
        self.map_layer1 = nn.Linear(inner, inner)
        make = functools.partial(
            UNetBlock,
            embedding_channels=inner,
            dropout=dropout,
            skip_scale=math.sqrt(0.5),
            eps=1e-6,
            project_skip=True,
            taps=tuple(taps),
        )
        widths = [model_channels * factor for factor in channel_mult]
        encoded = encoder_stages((height, width), channels, model_channels, widths, num_blocks)
        self.enc = nn.ModuleDict()
        smaller = channels
        for stage in encoded:
            if stage.kind == "conv":
                self.enc[stage.name] = nn.Conv2d(channels, model_channels, 3, padding=1)
                continue
            self.enc[stage.name] = make(
                stage.in_channels,
                stage.out_channels,
                resample=stage.resample,
                heads=int(stage.kind == "block" and stage.height in attention),
            )
            if encoder == "residual" and stage.kind == "down":
                name = stage.name.replace("_down", "_aux_residual")
                self.enc[name] = ConvThenDown(smaller, stage.out_channels, taps)
                smaller = stage.out_channels
        self.dec = nn.ModuleDict()
        for stage in decoder_stages((height, width), encoded, widths, num_blocks):
            attends = stage.last and stage.height in attention
            self.dec[stage.name] = make(
                stage.in_channels,
                stage.out_channels,
                resample=stage.resample,
                heads=int(stage.kind == "in0" or attends),
            )
        top = f"{height}x{width}_aux"
        outputs = (1 + learned_variance) * channels
        self.dec[f"{top}_norm"] = group_norm(widths[0], 1e-6)
        self.dec[f"{top}_conv"] = nn.Conv2d(widths[0], outputs, 3, padding=1)
        initialise_xavier(self, GAINS)

    def embed(self, noise: Tensor, condition: Condition, x: Tensor) -> Tensor:
        """Joint embedding of noise number (B,), class and augmentation, (B, 4 model_channels)."""
        embedding = sines_first(self.map_noise(noise)).to(x.dtype)
        if self.map_label is not None:
            label = one_hot(condition, self.num_classes, self.null_class, x)
            embedding = embedding + self.map_label(label * math.sqrt(self.num_classes))
        if self.map_augment is not None:
            embedding = embedding + self.map_augment(augmentation(condition, self.augment_dim, x))
        embedding = nn.functional.silu(self.map_layer0(embedding))
        return nn.functional.silu(self.map_layer1(embedding))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network F.

        Args:
            x: Scaled noisy images, (B, C, H, W).
            noise: Noise conditioning c_noise, (B,).
            condition: May hold ``label`` (B,) integers and ``augment`` (B, augment_dim).

        Returns:
            F of the same shape as ``x``.

        Raises:
            InputError: The label is missing and the network was never trained without.
        """
        embedding = self.embed(noise, condition or {}, x)
        channels, smaller, skips = x.shape[1], x, list[Tensor]()
        for name, part in self.enc.items():
            if isinstance(part, ConvThenDown):
                # In place of what the halving block gave, also as the skip.
                smaller = (skips.pop() + part(smaller)) * math.sqrt(0.5)
                x = smaller
            else:
                x = part(x) if name.endswith("_conv") else part(x, embedding)
            skips.append(x)
        for name, part in self.dec.items():
            if name.endswith("_aux_norm"):
                x = nn.functional.silu(part(x))
            elif name.endswith("_aux_conv"):
                x = part(x)
            else:
                x = part(torch.cat([x, skips.pop()], dim=1) if "_block" in name else x, embedding)
        return x[:, :channels]
