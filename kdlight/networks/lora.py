"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) in the U-Nets of diffusers."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.errors import InputError
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.images.unet_condition import UNet2DCondition

LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)
"""The layers that LCM-LoRA adapts: all of attention, and of the residual blocks."""


@dataclass
class Adapters:
    """How a network is adapted: ``W x`` becomes ``W x + (alpha / rank) B A x``.

    Args:
        rank: Rank of ``B A``.
        alpha: Scale of the adapters; null is ``rank``, a factor of 1.
        layers: How the names of the adapted layers end; null for all of :data:`LAYERS`.
    """

    rank: int = 64
    alpha: float | None = None
    layers: list[str] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"rank: expected at least 1, found {self.rank}.")
        if self.alpha is not None and not self.alpha > 0:
            raise InputError(f"alpha: expected a number above 0, found {self.alpha}.")


class AdaptedUNet(Recorded, nn.Module):
    """A U-Net whose weights stay as they are while adapters beside its layers are trained.

    Adapters start at zero: the network is then the one it was made of. A copy (an average of
    the weights, say) has adapters of its own and shares all other weights, in memory and in a
    checkpoint.

    Args:
        network: The network, one of diffusers; it is changed in place.
        rank: Rank of the adapters.
        alpha: See :class:`Adapters`.
        layers: See :class:`Adapters`.

    Raises:
        InputError: ``peft`` is not installed, or no layer has such a name.
    """

    def __init__(
        self,
        network: UNet2DCondition | UNet2D,
        rank: int = 64,
        alpha: float | None = None,
        layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.shape = network.shape
        self.num_classes = network.num_classes
        self.guidance_dim = getattr(network, "guidance_dim", 0)
        self.alpha = rank if alpha is None else alpha
        self.rank = rank
        self.network = network
        _inject(network.model, rank, self.alpha, list(LAYERS if layers is None else layers))
        self.freeze()

    def _parts(self) -> Iterator[tuple[str, nn.Parameter, bool]]:
        for name, parameter in self.named_parameters():
            yield name, parameter, "lora_" in name

    def freeze(self) -> None:
        """Let the adapters be trained, and nothing else."""
        for _, parameter, adapts in self._parts():
            parameter.requires_grad_(adapts)

    def adapters(self) -> dict[str, Tensor]:
        """The adapters by the names that diffusers' ``load_lora_weights`` knows."""
        return {
            name.replace("network.model.", "unet.", 1).replace(".default.", "."): parameter.detach()
            for name, parameter, adapts in self._parts()
            if adapts
        }

    def merged(self) -> UNet2DCondition | UNet2D:
        """A network of the original kind whose weights hold the adapters."""
        made = copy.deepcopy(self.network, self._shared({}))
        plain = type(self.network)(**self.network._init_args)
        weights = {}
        for name, module in made.named_modules():
            if hasattr(module, "get_delta_weight"):
                base = module.get_base_layer()
                delta = module.get_delta_weight("default")
                weights[f"{name}.weight"] = base.weight.detach() + delta.detach()
        for name, tensor in made.state_dict().items():
            if "lora_" not in name:
                weights.setdefault(name.replace(".base_layer.", "."), tensor)
        plain.load_state_dict(weights)
        return plain.to(next(self.parameters())).train(self.training)

    def forward(self, x: Tensor, noise: Tensor, condition: Condition | None = None) -> Tensor:
        output: Tensor = self.network(x, noise, condition)
        return output

    def _shared(self, memo: dict[int, Any]) -> dict[int, Any]:
        for _, parameter, adapts in self._parts():
            if not adapts:
                memo[id(parameter)] = parameter
        return memo

    def __deepcopy__(self, memo: dict[int, Any]) -> "AdaptedUNet":
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, self._shared(memo)))
        return made


def adapted(denoiser: Denoiser, adapters: Adapters) -> Denoiser:
    """A denoiser with trained adapters whose other weights are those of ``denoiser`` themselves.

    Args:
        denoiser: The original; it stays as it is.
        adapters: Settings of the adapters.

    Raises:
        InputError: Its network takes no adapters.
    """
    network = getattr(denoiser, "network", None)
    if not isinstance(network, UNet2D | UNet2DCondition):
        raise InputError(
            f"adapters: expected a teacher with a U-Net of diffusers, found a "
            f"{type(network or denoiser).__name__}."
        )
    tensors = itertools.chain(denoiser.parameters(), denoiser.buffers())
    made = copy.deepcopy(denoiser, {id(tensor): tensor for tensor in tensors})
    settings = (adapters.rank, adapters.alpha, adapters.layers)
    made.network = AdaptedUNet(made.network, *settings)  # type: ignore[arg-type]
    return made


def _inject(model: nn.Module, rank: int, alpha: float, layers: list[str]) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError(
            "rank: adapters need the package peft, which is not installed: pip install "
            "'kdlight[lora]'."
        ) from None
    known = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    unknown = [
        end for end in layers if not any(name == end or name.endswith(f".{end}") for name in known)
    ]
    if len(unknown) == len(layers):
        raise InputError(f"layers: the network has no layer called {', '.join(unknown)}.")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers)
    inject_adapter_in_model(config, model)
