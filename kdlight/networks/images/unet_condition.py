"""diffusers' ``UNet2DConditionModel`` behind the interface of kdlight's networks."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, NonNegativeInt, PositiveInt, Probability
from kdlight.core.spec import rebuilt
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.networks.lora import DiffusersNetwork


def guidance_embedding(guidance: Tensor, dim: int) -> Tensor:
    """Sines and cosines of ``1000 (guidance - 1)``, as diffusers embeds it for latent consistency.

    Args:
        guidance: Guidance scales (B,), 1 is none. In float64 where the embedding has to be that
            of the very number: its fastest wave turns once every 0.006.
        dim: Width of the embedding, even.

    Returns:
        (B, dim), float32.
    """
    half = dim // 2
    rate = torch.arange(half, dtype=torch.float32, device=guidance.device)
    rate = torch.exp(rate * -(torch.log(torch.tensor(10_000.0)) / (half - 1)).to(rate.device))
    angle = ((guidance.double() - 1).float() * 1000)[:, None] * rate[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class UNet2DCondition(DiffusersNetwork):
    """The U-Net of latent diffusion: ``network(z, timestep, condition)``.

    Where ``condition`` has no ``text``, :attr:`null_text` stands in, the embedding of the empty
    prompt; where it has no ``label``, the class for "no class" does. A network with
    ``guidance_dim`` is told ``guidance`` besides and has to be. One with ``pooled_dim``, as Stable
    Diffusion XL's, is told ``pooled`` text and ``time_ids``, the sizes and the cut of a picture:
    :attr:`null_pooled` and :attr:`whole` stand in.

    Args:
        size: Height and width of the latent.
        channels: Latent channels.
        num_classes: Number of classes; 0 for none.
        text_shape: Tokens and channels of the text embedding the network attends to; null
            builds a network without cross-attention.
        guidance_dim: Width of the embedding of the guidance scale; 0 for none.
        block_out_channels: Channels at each resolution, from the full one down.
        layers_per_block: Residual blocks at each resolution.
        dropout: Dropout probability inside each residual block.
        null_class: Whether there is one more class, the label ``num_classes``, for "no class".
        options: Further arguments of ``UNet2DConditionModel``, by its own names; they win.
        pooled_dim: Width of the pooled text; 0 for a network that is told none.

    Attributes:
        null_text: Text that stands in where none is given, (L, D), saved with the weights.
        null_pooled: Pooled text that stands in, (P,).
        whole: Time ids that stand in, (6,): height and width of the picture, top and left of the
            cut, height and width of what is drawn, in pixels.
    """

    null_text: Tensor | None
    null_pooled: Tensor | None
    whole: Tensor | None

    def __init__(
        self,
        size: PositiveInt | Sequence[PositiveInt] = 64,
        channels: PositiveInt = 4,
        num_classes: NonNegativeInt = 0,
        text_shape: Sequence[PositiveInt] | None = None,
        guidance_dim: NonNegativeInt = 0,
        block_out_channels: Sequence[PositiveInt] = (32, 64),
        layers_per_block: LayerCount = 1,
        dropout: Probability = 0.0,
        null_class: bool = True,
        options: Mapping[str, Any] | None = None,
        pooled_dim: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if guidance_dim and (guidance_dim < 4 or guidance_dim % 2):
            raise InputError(
                f"guidance_dim: expected 0 or an even number of at least 4, found {guidance_dim}."
            )
        height, width = (size, size) if isinstance(size, int) else size
        self.shape = (channels, height, width)
        self.num_classes = num_classes
        self.null_class = null_class
        self.text_shape = None if text_shape is None else tuple(text_shape)
        self.guidance_dim = guidance_dim
        told = {
            "label": num_classes,
            "text": text_shape,
            "pooled": pooled_dim,
            "time_ids": pooled_dim,
            "guidance": guidance_dim,
        }
        self.conditions = tuple(name for name, size in told.items() if size)
        attends = "CrossAttn" if text_shape is not None else ""
        deeper = len(block_out_channels) - 1
        groups = math.gcd(32, *(channels // 4 for channels in block_out_channels))
        arguments: dict[str, Any] = {
            "sample_size": height if height == width else (height, width),
            "in_channels": channels,
            "out_channels": channels,
            "block_out_channels": tuple(block_out_channels),
            "layers_per_block": layers_per_block,
            "down_block_types": ("DownBlock2D",) + (f"{attends}DownBlock2D",) * deeper,
            "mid_block_type": f"UNetMidBlock2D{attends}",
            "up_block_types": (f"{attends}UpBlock2D",) * deeper + ("UpBlock2D",),
            "norm_num_groups": max(groups, 1),
            "attention_head_dim": 8,
            "dropout": dropout,
            "num_class_embeds": num_classes + null_class if num_classes else None,
            "time_cond_proj_dim": guidance_dim or None,
        }
        if self.text_shape is not None:
            arguments["cross_attention_dim"] = self.text_shape[1]
        self.model = UNet2DConditionModel(**{**arguments, **(options or {})})
        projection = self.model.time_embedding.cond_proj
        if projection is not None:
            # At zero, so that a student starts as the network it was copied from (ControlNet,
            # arXiv:2302.05543, which LCM follows here).
            nn.init.zeros_(projection.weight)
        self.register_buffer(
            "null_text", None if self.text_shape is None else torch.zeros(self.text_shape)
        )
        self.register_buffer("null_pooled", torch.zeros(pooled_dim) if pooled_dim else None)
        self.register_buffer("whole", torch.zeros(6) if pooled_dim else None)

    def told_guidance(self, guidance_dim: int) -> "UNet2DCondition":
        """A copy that is told the guidance scale, through a new layer that starts at zero.

        A network that is told it already is copied as it is.
        """
        if self.guidance_dim:
            return copy.deepcopy(self)
        made = rebuilt(self, guidance_dim=guidance_dim)
        made.load_state_dict(self.state_dict(), strict=False)
        return made.to(next(self.parameters())).train(self.training)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network.

        Args:
            x: Noisy latents z, (B, C, H, W).
            noise: Timestep, (B,).
            condition: May hold ``text`` (B, L, D), ``label`` (B,), ``guidance`` (B,),
                ``pooled`` (B, P) and ``time_ids`` (B, 6).

        Returns:
            The network's prediction, shape of ``x``.

        Raises:
            InputError: The guidance scale or a label is missing and nothing stands in.
        """
        told = condition or {}
        text = told.get("text")
        if text is None and self.null_text is not None:
            text = self.null_text.expand(len(x), -1, -1)
        guidance = None
        if self.guidance_dim:
            if "guidance" not in told:
                raise InputError("guidance: this network has to be told a guidance scale.")
            guidance = guidance_embedding(told["guidance"], self.guidance_dim).to(x)
        output = self.model(
            x,
            noise,
            encoder_hidden_states=None if text is None else text.to(x),
            class_labels=self._label(told, x),
            timestep_cond=guidance,
            added_cond_kwargs=self._added(told, x),
            return_dict=False,
        )
        return output[0]  # type: ignore[no-any-return]

    def _added(self, condition: Condition, x: Tensor) -> dict[str, Tensor] | None:
        if self.null_pooled is None or self.whole is None:
            return None
        pooled = condition.get("pooled", self.null_pooled.expand(len(x), -1))
        time_ids = condition.get("time_ids", self.whole.expand(len(x), -1))
        return {"text_embeds": pooled.to(x), "time_ids": time_ids.to(x)}

    def _label(self, condition: Condition, x: Tensor) -> Tensor | None:
        if not self.num_classes:
            return None
        label = condition.get("label")
        if label is None and not self.null_class:
            raise InputError("label: this network has no class for a missing label.")
        if label is None:
            label = torch.full((len(x),), self.num_classes, device=x.device)
        return label
