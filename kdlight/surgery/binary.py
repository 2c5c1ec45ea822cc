"""Language models whose weights are rounded to two binary planes, and their small files."""

import copy

from torch import nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import rebuilt
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.discrete.text_generator import writes_tokens
from kdlight.errors import InputError
from kdlight.networks.text.dual_binary import DualBinary, packed


def dual_binary(model: AutoregressiveModel, group: PositiveInt = 64) -> AutoregressiveModel:
    """A model with two binary planes in the place of each linear layer, heads excepted.

    Args:
        model: With its weights; it stays as it is.
        group: Weights of an output that share scales.

    Raises:
        InputError: It has no linear layer, or one that groups do not fill.
    """
    return rebuilt(model, network=DualBinary(copy.deepcopy(model.network), group))


def packed_model(model: nn.Module) -> nn.Module:
    """What writes tokens, with two bits a weight; it is changed.

    Raises:
        InputError: Its weights are not those of two planes.
    """
    generator = writes_tokens(model)
    inner = generator.denoiser if generator is not None else model
    network = getattr(inner, "network", None)
    if not isinstance(inner, AutoregressiveModel) or not isinstance(network, DualBinary):
        raise InputError(
            "--packed: expected a model with weights of two binary planes, found "
            f"{type(network or model).__name__}."
        )
    inner.network = packed(network)
    return model
