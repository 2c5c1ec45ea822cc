"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) in the networks of diffusers and EDM."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded, rebuilt
from kdlight.diffusion.denoisers import Condition, GuidedDenoiser
from kdlight.diffusion.students import Adapters
from kdlight.errors import InputError

UNET_LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)
"""The layers that LCM-LoRA adapts: all of attention, and of the residual blocks."""


class AdaptableNetwork(Recorded, nn.Module):
    """Base of the networks that take adapters.

    Attributes:
        shape: Shape of one sample.
        num_classes: Number of classes; 0 for none.
        null_class: Whether a missing label is one that it knows.
        conditions: Names of the conditions that it can be told.
        adapted_layers: How the names of the layers end that adapters usually go beside.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    null_class: bool = False
    conditions: tuple[str, ...]
    adapted_layers: ClassVar[tuple[str, ...]]

    def adapted(self, adapters: Adapters) -> "AdaptedNetwork":
        """This network itself with trained adapters.

        Raises:
            InputError: ``peft`` is not installed, or no layer has such a name.
        """
        return AdaptedNetwork(self, adapters.rank, adapters.alpha, adapters.layers)


class DiffusersNetwork(AdaptableNetwork):
    """Base of the networks that hold one of diffusers, as ``model``.

    Attributes:
        model: The network of diffusers.
        part: Name of such networks in a pipeline's folder.
    """

    model: Any
    part: ClassVar[str] = "unet"
    guidance: ClassVar[type[GuidedDenoiser]] = GuidedDenoiser
    """How its pipeline guides it."""
    adapted_layers: ClassVar[tuple[str, ...]] = UNET_LAYERS


class EDMNetwork(AdaptableNetwork):
    """Base of the U-Nets of EDM."""

    conditions: tuple[str, ...] = ("label", "augment")
    adapted_layers: ClassVar[tuple[str, ...]] = ("conv0", "conv1", "affine", "skip", "qkv", "proj")


class AdaptedNetwork(Recorded, nn.Module):
    """A network whose weights stay as they are while adapters beside them are trained.

    Adapters start at zero: the network is then the one it was made of. A copy (an average of
    the weights, say) has adapters of its own and shares all other weights, in memory and in a
    checkpoint.

    Args:
        network: The network, one with a network of diffusers in it or one of EDM's; it is changed
            in place.
        rank: Rank of the adapters.
        alpha: See :class:`Adapters`.
        layers: See :class:`Adapters`.

    Raises:
        InputError: ``peft`` is not installed, or no layer has such a name.
    """

    def __init__(
        self,
        network: AdaptableNetwork,
        rank: PositiveInt = 64,
        alpha: PositiveFloat | None = None,
        layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.shape = network.shape
        self.num_classes = network.num_classes
        self.null_class = network.null_class
        self.conditions = network.conditions
        self.guidance_dim = getattr(network, "guidance_dim", 0)
        self.alpha = rank if alpha is None else alpha
        self.rank = rank
        self.network = network
        inside = getattr(network, "model", network)
        _inject(inside, rank, self.alpha, list(layers or network.adapted_layers))
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
        part = f"{getattr(self.network, 'part', 'network')}."
        return {
            name.replace("network.model.", part, 1).replace(".default.", "."): parameter.detach()
            for name, parameter, adapts in self._parts()
            if adapts
        }

    def merged(self) -> AdaptableNetwork:
        """A network of the original kind whose weights hold the adapters."""
        made = copy.deepcopy(self.network, self._shared({}))
        plain = rebuilt(self.network)
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

    def __deepcopy__(self, memo: dict[int, Any]) -> "AdaptedNetwork":
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, self._shared(memo)))
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
    chosen = [
        name for name in known if any(name == end or name.endswith(f".{end}") for end in layers)
    ]
    if not chosen:
        raise InputError(f"layers: the network has no layer called {', '.join(layers)}.")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen)
    inject_adapter_in_model(config, model)
