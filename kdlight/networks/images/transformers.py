"""The transformers of diffusers' latent pipelines behind the interface of kdlight's networks."""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import diffusers
import torch
from diffusers.models.embeddings import (
    LabelEmbedding,
    TimestepEmbedding,
    get_timestep_embedding,
)
from torch import Tensor, nn

from kdlight.core.spec import rebuilt
from kdlight.diffusion.denoisers import Condition, GuidedDenoiser
from kdlight.diffusion.length_guidance import LengthGuidedDenoiser
from kdlight.errors import InputError
from kdlight.networks.lora import DiffusersNetwork

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
JOINT = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")


class PipelineTransformer(DiffusersNetwork):
    """A transformer of a latent pipeline: ``network(z, noise, condition)``.

    Latents are maps (B, C, H, W) everywhere; a network that wants them packed packs them itself.
    Of the conditions that it can be told, those that are missing are the ``null_*`` tensors', what
    the pipeline tells of no prompt; they are saved with the weights.

    Args:
        shape: Shape of one latent.
        config: Arguments of the network of diffusers, by its own names.
        null: Shape of what stands in for each of the conditions that are tensors.
        interval: Whether it is told how far a jump goes, in units of the noise number, as flow
            maps are; a missing number means 0.

    Attributes:
        token_grid: Rows and columns of the tokens that a latent becomes.
    """

    part: ClassVar[str] = "transformer"
    adapted_layers: ClassVar[tuple[str, ...]] = (*ATTENTION, *FEED_FORWARD)
    kind: ClassVar[str]
    number_scale: ClassVar[float] = 1.0
    """Factor that makes the noise number one from 0 to 1000."""

    def __init__(
        self,
        shape: Sequence[int],
        config: Mapping[str, Any],
        null: Mapping[str, Sequence[int]] | None = None,
        interval: bool = False,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.model = getattr(diffusers, self.kind)(**config)
        self.interval = interval
        self.interval_embedding = self._interval_embedding() if interval else None
        self.conditions = tuple(null or {})
        for name, size in (null or {}).items():
            self.register_buffer(f"null_{name}", torch.zeros(tuple(size)))
        patch = self.patch_size
        if any(side % patch for side in self.shape[1:]):
            raise InputError(
                f"shape: expected sides that are multiples of {patch}, found {self.shape}."
            )
        self.token_grid = (self.shape[1] // patch, self.shape[2] // patch)

    def _time_embeddings(self) -> list[TimestepEmbedding]:
        """Where the time enters; adaptive norms of some networks have one each."""
        return [
            module
            for name, module in self.model.named_modules()
            if name.endswith("timestep_embedder") and isinstance(module, TimestepEmbedding)
        ]

    def _interval_embedding(self) -> TimestepEmbedding:
        first = self._time_embeddings()[0]
        made = TimestepEmbedding(first.linear_1.in_features, first.linear_2.out_features)
        # At zero, so that a student starts as the network it was copied from.
        nn.init.zeros_(made.linear_2.weight)
        nn.init.zeros_(made.linear_2.bias)
        return made

    def told_interval(self) -> "PipelineTransformer":
        """A copy that is told how far a jump goes, through layers that start at zero."""
        if self.interval:
            return copy.deepcopy(self)
        made = rebuilt(self, interval=True)
        made.load_state_dict(self.state_dict(), strict=False)
        return made.to(next(self.parameters())).train(self.training)

    def of_interval(self, interval: float) -> "PipelineTransformer":
        """A copy that is told nothing of it, but always makes jumps of one length.

        Args:
            interval: Their length, in units of the noise number.
        """
        made = rebuilt(self, interval=False)
        made.load_state_dict(self.state_dict(), strict=False)
        made = made.to(next(self.parameters())).train(self.training)
        with torch.no_grad():
            number = next(self.parameters()).new_tensor([interval])
            for embedding in made._time_embeddings():
                embedding.linear_2.bias += self._embedded(number)[0]
        return made

    def _embedded(self, interval: Tensor) -> Tensor:
        assert self.interval_embedding is not None
        width = self.interval_embedding.linear_1.in_features
        features = get_timestep_embedding(
            interval * self.number_scale, width, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        embedded: Tensor = self.interval_embedding(features.to(next(self.parameters())))
        return embedded

    @contextlib.contextmanager
    def _telling(self, interval: Tensor) -> Iterator[None]:
        """The embedded interval is added wherever the time enters, during the block."""
        if self.interval_embedding is None:
            yield
            return
        told = self._embedded(interval)

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + told

        hooks = [module.register_forward_hook(add) for module in self._time_embeddings()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def patch_size(self) -> int:
        """Side of the square that becomes one token, in numbers of the latent."""
        return int(self.model.config.patch_size)

    def told(self, condition: Condition | None, x: Tensor) -> Condition:
        """All conditions, of the dtype of ``x``, with what stands in for missing ones."""
        given = condition or {}
        return {
            name: given[name].to(x)
            if name in given
            else self.get_buffer(f"null_{name}").expand(len(x), *self._null_shape(name)).to(x)
            for name in self.conditions
        }

    def _null_shape(self, name: str) -> torch.Size:
        return self.get_buffer(f"null_{name}").shape

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        """Evaluate the raw network.

        Args:
            x: Noisy latents, (B, C, H, W).
            noise: Timestep or time, (B,).
            condition: Some of :attr:`conditions`, and ``interval`` (B,).

        Returns:
            The network's prediction, shape of ``x``; a learned variance is left out.
        """
        interval = (condition or {}).get("interval", torch.zeros_like(noise))
        with self._telling(interval):
            return self.call(x, noise, self.told(condition, x))[:, : x.shape[1]]

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        """The network of diffusers, called as its pipeline does."""
        raise NotImplementedError


class ClassTransformer(PipelineTransformer):
    """DiT (Peebles & Xie 2022, arXiv:2212.09748): told a class, the last of which is none."""

    kind: ClassVar[str] = "DiTTransformer2DModel"
    null_class = True

    def __init__(
        self,
        shape: Sequence[int],
        config: Mapping[str, Any],
        null: Mapping[str, Sequence[int]] | None = None,
        interval: bool = False,
    ) -> None:
        super().__init__(shape, config, null, interval)
        self.num_classes = int(self.model.config.num_embeds_ada_norm)
        self.conditions = ("label",)
        for module in self.model.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0  # which labels are dropped, the method says

    def told(self, condition: Condition | None, x: Tensor) -> Condition:
        missing = torch.full((len(x),), self.num_classes, device=x.device)
        return {"label": (condition or {}).get("label", missing)}

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        output = self.model(x, timestep=noise, class_labels=told["label"], return_dict=False)
        return output[0]  # type: ignore[no-any-return]


class PixArtTransformer(PipelineTransformer):
    """PixArt-alpha and -sigma (Chen et al. 2023, arXiv:2310.00426): told text and its mask."""

    kind: ClassVar[str] = "PixArtTransformer2DModel"

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        output = self.model(
            x,
            timestep=noise,
            encoder_hidden_states=told["text"],
            encoder_attention_mask=told["text_mask"],
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )
        return output[0]  # type: ignore[no-any-return]


class SanaTransformer(PipelineTransformer):
    """Sana (Xie et al. 2024, arXiv:2410.10629): told text and its mask; its layers mix locally."""

    kind: ClassVar[str] = "SanaTransformer2DModel"
    adapted_layers: ClassVar[tuple[str, ...]] = ATTENTION

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        output = self.model(
            x,
            timestep=noise * self.model.config.timestep_scale,
            encoder_hidden_states=told["text"],
            encoder_attention_mask=told["text_mask"],
            guidance=told.get("guidance"),
            return_dict=False,
        )
        return output[0]  # type: ignore[no-any-return]


class SD3Transformer(PipelineTransformer):
    """Stable Diffusion 3 (Esser et al. 2024, arXiv:2403.03206): told text and pooled text."""

    kind: ClassVar[str] = "SD3Transformer2DModel"
    adapted_layers: ClassVar[tuple[str, ...]] = JOINT

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        output = self.model(
            hidden_states=x,
            timestep=noise,
            encoder_hidden_states=told["text"],
            pooled_projections=told["pooled"],
            return_dict=False,
        )
        return output[0]  # type: ignore[no-any-return]


class FluxTransformer(PipelineTransformer):
    """Flux: told text, pooled text and, where it was distilled from guidance, its scale.

    The time goes in as 0 to 1, rounded to the dtype of the latents as its pipeline does.
    """

    kind: ClassVar[str] = "FluxTransformer2DModel"
    adapted_layers: ClassVar[tuple[str, ...]] = JOINT
    number_scale: ClassVar[float] = 1000.0

    @property
    def patch_size(self) -> int:
        return 2

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        rows, columns = x.shape[2] // 2, x.shape[3] // 2
        row = torch.arange(rows, device=x.device)[:, None].expand(rows, columns)
        column = torch.arange(columns, device=x.device)[None].expand(rows, columns)
        places = torch.stack([torch.zeros_like(row), row, column], dim=2)
        output = self.model(
            hidden_states=packed(x),
            timestep=noise,
            guidance=told.get("guidance"),
            pooled_projections=told["pooled"],
            encoder_hidden_states=told["text"],
            txt_ids=x.new_zeros(told["text"].shape[1], 3),
            img_ids=places.flatten(0, 1).to(x),
            return_dict=False,
        )
        return unpacked(output[0], rows, columns)


class QwenImageTransformer(PipelineTransformer):
    """Qwen-Image (Wu et al. 2025, arXiv:2508.02324): told text of any length and its mask.

    The time goes in as 0 to 1, rounded to the dtype of the latents as its pipeline does.
    """

    kind: ClassVar[str] = "QwenImageTransformer2DModel"
    adapted_layers: ClassVar[tuple[str, ...]] = (*JOINT, "img_mod.1", "img_mlp.net.2")
    number_scale: ClassVar[float] = 1000.0
    guidance: ClassVar[type[GuidedDenoiser]] = LengthGuidedDenoiser

    def call(self, x: Tensor, noise: Tensor, told: Condition) -> Tensor:
        rows, columns = x.shape[2] // 2, x.shape[3] // 2
        output = self.model(
            hidden_states=packed(x),
            timestep=noise,
            encoder_hidden_states=told["text"],
            encoder_hidden_states_mask=told["text_mask"].bool(),
            img_shapes=[[(1, rows, columns)]] * len(x),
            return_dict=False,
        )
        return unpacked(output[0], rows, columns)


def packed(x: Tensor) -> Tensor:
    """Squares of 2 x 2 as tokens: (B, C, H, W) to (B, HW / 4, 4C)."""
    count, channels, height, width = x.shape
    squares = x.reshape(count, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(count, height * width // 4, 4 * channels)


def unpacked(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of :func:`packed`, to (B, C, 2 rows, 2 columns)."""
    count, channels = len(tokens), math.prod(tokens.shape[2:]) // 4
    squares = tokens.reshape(count, rows, columns, channels, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, 2 * rows, 2 * columns)


TRANSFORMERS: dict[str, type[PipelineTransformer]] = {
    family.kind: family
    for family in (
        ClassTransformer,
        PixArtTransformer,
        SanaTransformer,
        SD3Transformer,
        FluxTransformer,
        QwenImageTransformer,
    )
}
"""By the name that diffusers gives the network."""
