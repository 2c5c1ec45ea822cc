"""ADM, the U-Net of guided diffusion, as OpenAI released it and as EDM trains it."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt, Probability
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.images.dit import sinusoidal
from kdlight.networks.images.edm.block import UNetBlock, group_norm
from kdlight.networks.images.edm.layout import (
    Stage,
    augmentation,
    decoder_stages,
    encoder_stages,
    one_hot,
    shape_of,
)
from kdlight.networks.lora import EDMNetwork

HEAD_CHANNELS = 64


class DhariwalUNet(EDMNetwork):
    """ADM (Dhariwal & Nichol 2021, arXiv:2105.05233), as in EDM (arXiv:2206.00364, F.1).

    The defaults are EDM's for ImageNet-64, for ``EDMDenoiser``, but for the classes.

    Args:
        size: Height and width of the image (one number if square), multiples of
            ``2 ** (len(channel_mult) - 1)``.
        channels: Image channels.
        num_classes: Number of classes; 0 builds an unconditional network.
        augment_dim: Width of the augmentation vector, 9 for EDM's augmentation; a missing vector
            means "not augmented".
        model_channels: Width of the noise embedding; the joint embedding is four times as wide.
        channel_mult: Channels of each resolution over ``model_channels``.
        num_blocks: Residual blocks at each resolution; the decoder has one more.
        attention: Heights at which all blocks have attention. The bottom of the decoder always
            has it.
        heads: Attention heads; None for one to every 64 channels.
        dropout: Dropout probability inside each block.
        scale_shift: Whether the embedding scales and shifts normalised features; False adds it.
        noise_scale: Factor on the noise number before its embedding: 1 for EDM's own training,
            1000 for OpenAI's consistency models behind ``EDMDenoiser``.
        null_class: Whether it was trained with labels left out: the label ``num_classes``, or a
            missing one, is then "no class".
        learned_variance: Whether the last convolution has as many channels more, the learned
            variance of improved DDPM (arXiv:2102.09672), which is not given out.
    """

    def __init__(
        self,
        size: PositiveInt | Sequence[PositiveInt] = 64,
        channels: PositiveInt = 3,
        num_classes: NonNegativeInt = 0,
        augment_dim: NonNegativeInt = 0,
        model_channels: PositiveInt = 192,
        channel_mult: Sequence[PositiveFloat] = (1, 2, 3, 4),
        num_blocks: LayerCount = 3,
        attention: Sequence[NonNegativeInt] = (32, 16, 8),
        heads: PositiveInt | None = None,
        dropout: Probability = 0.1,
        scale_shift: bool = True,
        noise_scale: PositiveFloat = 1.0,
        null_class: bool = False,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        height, width = shape_of(size, len(channel_mult))
        self.shape = (channels, height, width)
        self.num_classes = num_classes
        self.augment_dim = augment_dim
        self.null_class = null_class
        self.noise_scale = noise_scale
        self.model_channels = model_channels
        inner = 4 * model_channels
        self.map_augment = (
            nn.Linear(augment_dim, model_channels, bias=False) if augment_dim else None
        )
        self.map_layer0 = nn.Linear(model_channels, inner)
        self.map_layer1 = nn.Linear(inner, inner)
        self.map_label = nn.Linear(num_classes, inner, bias=False) if num_classes else None
        make = functools.partial(
            UNetBlock, embedding_channels=inner, dropout=dropout, scale_shift=scale_shift
        )

        def block(stage: Stage) -> UNetBlock:
            attends = stage.kind == "block" and stage.height in attention
            count = _heads(stage, heads) if attends or stage.kind == "in0" else 0
            return make(stage.in_channels, stage.out_channels, resample=stage.resample, heads=count)

        widths = [int(model_channels * factor) for factor in channel_mult]
        encoded = encoder_stages((height, width), channels, widths[0], widths, num_blocks)
        self.enc = nn.ModuleDict()
        for stage in encoded:
            first = stage.kind == "conv"
            self.enc[stage.name] = (
                nn.Conv2d(channels, widths[0], 3, padding=1) if first else block(stage)
            )
        self.dec = nn.ModuleDict()
        for stage in decoder_stages((height, width), encoded, widths, num_blocks):
            self.dec[stage.name] = block(stage)
        self.out_norm = group_norm(widths[0], 1e-5)
        self.out_conv = nn.Conv2d(widths[0], (1 + learned_variance) * channels, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        # Otherwise torch's defaults, which are those of the release.
        for name, layer in self.named_modules():
            if name.endswith(("conv1", "proj", "out_conv", "map_augment")):
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
        if self.map_label is not None:
            nn.init.normal_(self.map_label.weight)

    def embed(self, noise: Tensor, condition: Condition, x: Tensor) -> Tensor:
        """Joint embedding of noise number (B,), class and augmentation, (B, 4 model_channels)."""
        embedding = sinusoidal(noise * self.noise_scale, self.model_channels).to(x.dtype)
        if self.map_augment is not None:
            embedding = embedding + self.map_augment(augmentation(condition, self.augment_dim, x))
        embedding = self.map_layer1(nn.functional.silu(self.map_layer0(embedding)))
        if self.map_label is not None:
            embedding = embedding + self.map_label(
                one_hot(condition, self.num_classes, self.null_class, x)
            )
        return nn.functional.silu(embedding)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network F.

        Args:
            x: Scaled noisy images, (B, C, H, W).
            noise: Noise conditioning c_noise or timestep, (B,).
            condition: May hold ``label`` (B,) integers and ``augment`` (B, augment_dim).

        Returns:
            F of the same shape as ``x``.

        Raises:
            InputError: The label is missing and the network was never trained without.
        """
        embedding = self.embed(noise, condition or {}, x)
        channels, skips = x.shape[1], list[Tensor]()
        for name, part in self.enc.items():
            x = part(x) if name.endswith("_conv") else part(x, embedding)
            skips.append(x)
        for name, part in self.dec.items():
            x = part(torch.cat([x, skips.pop()], dim=1) if "_block" in name else x, embedding)
        output: Tensor = self.out_conv(nn.functional.silu(self.out_norm(x)))
        return output[:, :channels]


def _heads(stage: Stage, heads: int | None) -> int:
    unit = HEAD_CHANNELS if heads is None else heads
    if stage.out_channels % unit:
        name = "model_channels" if heads is None else f"heads: {heads}, model_channels"
        raise InputError(
            f"{name}: expected a multiple of {unit} wherever there is attention, "
            f"found {stage.out_channels}."
        )
    return stage.out_channels // unit if heads is None else heads
