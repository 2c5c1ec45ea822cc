"""diffusers' ``UNet2DModel`` behind the interface of kdlight's networks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveFloat, PositiveInt, Probability
from kdlight.core.spec import rebuilt
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.lora import DiffusersNetwork


def _groups(widths: Sequence[int]) -> int:
    """Most normalisation groups, up to 32, with at least four channels in each.

    A group of one channel would cancel the noise embedding, which is added channel by channel
    just before the normalisation.
    """
    common, limit = math.gcd(*widths), min(32, min(widths) // 4)
    return max((n for n in range(1, limit + 1) if common % n == 0), default=1)


def _contiguous(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Group normalisation has no forward-mode derivative of the strides that attention leaves."""
    return (inputs[0].contiguous(),)


class UNet2D(DiffusersNetwork):
    """A U-Net for images: ``diffusers.UNet2DModel``, called ``network(x, noise, condition)``.

    The embedding of the noise number is the sinusoidal one made for timesteps 0 to 1000. A
    denoiser that gives smaller numbers needs ``noise_scale``: 1 for ``VPDenoiser`` (timesteps),
    about 250 for ``EDMDenoiser`` (``log(sigma) / 4`` lies within 2 of 0), or 1000 for it and for
    ``ConsistencyDenoiser`` in the convention of diffusers, 1000 for ``FlowDenoiser`` (time in
    0 to 1, unless its own ``time_scale`` is 1000 already).

    Args:
        size: Height and width of the image (one number if square), multiples of
            ``2 ** (len(block_out_channels) - 1)``.
        channels: Image channels.
        num_classes: Number of classes; 0 builds an unconditional network.
        block_out_channels: Channels at each resolution, from the full one down.
        layers_per_block: Residual blocks at each resolution.
        attention: Whether each resolution has self-attention; default: the lowest alone.
        dropout: Dropout probability inside each residual block.
        noise_scale: Factor on the noise number before its embedding.
        null_class: Whether there is one more class, the label ``num_classes``, for "no class": it
            stands in when the label is missing. False for foreign networks trained without one.
        options: Further arguments of ``UNet2DModel``, by its own names; they win over the above.
        interval: Whether it is told how far a jump goes, in units of the noise number, as flow
            maps are; a missing number means 0.
    """

    def __init__(
        self,
        size: PositiveInt | Sequence[PositiveInt] = 32,
        channels: PositiveInt = 3,
        num_classes: NonNegativeInt = 0,
        block_out_channels: Sequence[PositiveInt] = (32, 64),
        layers_per_block: LayerCount = 1,
        attention: Sequence[bool] | None = None,
        dropout: Probability = 0.0,
        noise_scale: PositiveFloat = 1.0,
        null_class: bool = True,
        options: Mapping[str, Any] | None = None,
        interval: bool = False,
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        levels = len(block_out_channels)
        if height % 2 ** (levels - 1) or width % 2 ** (levels - 1):
            raise InputError(
                f"size: expected multiples of {2 ** (levels - 1)} for {levels} resolutions, "
                f"found {height} x {width}."
            )
        attends = [level == levels - 1 for level in range(levels)]
        attends = attends if attention is None else list(attention)
        if len(attends) != levels:
            raise InputError(
                f"attention: expected one value for each of {levels} resolutions, "
                f"found {len(attends)}."
            )
        self.shape = (channels, height, width)
        self.num_classes = num_classes
        self.null_class = null_class
        self.conditions = ("label",) if num_classes else ()
        self.noise_scale = noise_scale
        self.interval = interval
        arguments: dict[str, Any] = {
            "sample_size": height if height == width else (height, width),
            "in_channels": channels,
            "out_channels": channels,
            "block_out_channels": tuple(block_out_channels),
            "layers_per_block": layers_per_block,
            "down_block_types": ["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
            "up_block_types": ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
            "norm_num_groups": _groups(block_out_channels),
            "dropout": dropout,
            "num_class_embeds": num_classes + null_class if num_classes else None,
        }
        if interval:
            # diffusers has no second number: interval and class are embedded here, and their sum
            # goes in where the class does.
            arguments |= {"class_embed_type": "identity", "num_class_embeds": None}
        self.model = UNet2DModel(**{**arguments, **(options or {})})
        for module in self.model.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_contiguous)
        self.interval_embedding: TimestepEmbedding | None = None
        self.class_embedding: nn.Embedding | None = None
        if interval:
            first, last = self.model.time_embedding.linear_1, self.model.time_embedding.linear_2
            self.interval_embedding = TimestepEmbedding(first.in_features, last.out_features)
            if num_classes:
                self.class_embedding = nn.Embedding(num_classes + null_class, last.out_features)

    def of_width(self, factor: float) -> "UNet2D":
        """An untrained network as this one, with ``factor`` times the channels at each resolution.

        Raises:
            InputError: Heads of attention or groups of normalisation do not divide such channels.
        """
        options = dict(self._init_args["options"] or {})
        config = self.model.config
        step = math.lcm(options.get("norm_num_groups") or 1, config.attention_head_dim or 1)
        widths = [round(factor * width) for width in config.block_out_channels]
        if any(width == 0 or width % step for width in widths):
            raise InputError(
                f"width: expected channels that are multiples of {step}, of groups and of heads, "
                f"found {widths} as {factor:g} times {list(config.block_out_channels)}."
            )
        options.pop("block_out_channels", None)
        return rebuilt(self, block_out_channels=widths, options=options)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network F.

        Args:
            x: Scaled noisy images, (B, C, H, W).
            noise: Noise conditioning c_noise or timestep, (B,).
            condition: May hold ``label`` (B,) integers and ``interval`` (B,).

        Returns:
            F of the same shape as ``x``.

        Raises:
            InputError: The label is missing and the network has no class for that.
        """
        label = None
        if self.num_classes:
            label = (condition or {}).get("label")
            if label is None and not self.null_class:
                raise InputError("label: this network has no class for a missing label.")
            if label is None:
                label = torch.full((len(x),), self.num_classes, device=x.device)
        if self.interval_embedding is not None:
            interval = (condition or {}).get("interval", torch.zeros_like(noise))
            features = self.model.time_proj(interval * self.noise_scale).to(x.dtype)
            told = self.interval_embedding(features)
            label = told if self.class_embedding is None else told + self.class_embedding(label)
        output = self.model(x, noise * self.noise_scale, class_labels=label, return_dict=False)
        # Without the variance that a network of diffusers may have learned beside the mean.
        return output[0][:, : x.shape[1]]  # type: ignore[no-any-return]
