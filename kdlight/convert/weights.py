"""Weights out of the files of authors: normalised ones made plain, layers renamed."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.core.hints import called
from kdlight.errors import InputError
from kdlight.storage.files import kind_of

NORMS = (("weight_g", "weight_v"), tuple(f"parametrizations.weight.original{i}" for i in range(2)))
"""Lengths and directions of weight normalisation, in torch's older and newer naming."""


def tensors_of(found: Any, source: str) -> dict[str, Tensor]:
    """A mapping of nothing but tensors by name.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{source}: expected weights by name, found none.")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{source}: {name}: expected a tensor, found {called(value)}.")
        if value.layout != torch.strided or value.is_complex() or value.is_quantized:
            raise InputError(f"{source}: {name}: expected plain numbers, found {kind_of(value)}.")
    return {str(name): value for name, value in found.items()}


def without_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with ``g * v / |v|`` (arXiv:1602.07868, equation 2) in the place of g and v.

    The axis of the norm is the one along which g has more than one entry.
    """
    plain = dict(weights)
    for name in weights:
        for length, direction in NORMS:
            layer = name.removesuffix(length)
            if layer == name or layer + direction not in weights:
                continue
            lengths, directions = plain.pop(name), plain.pop(layer + direction)
            wide = [axis for axis, size in enumerate(lengths.shape) if size > 1]
            folded = torch._weight_norm(directions, lengths, wide[0] if wide else 0)
            plain[layer + "weight"] = folded
    return plain


def with_layers_renamed(
    weights: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Weights whose layers have other names; a layer without one keeps its own.

    Args:
        weights: By name: the layer's, a dot, the parameter's.
        names: New names of layers by old.
    """
    renamed = {}
    for name, value in weights.items():
        layer, _, parameter = name.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{parameter}"] = value
    return renamed


def numbered(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many layers ``prefix.0``, ``prefix.1``, ... there are."""
    found = {
        int(name.removeprefix(f"{prefix}.").split(".")[0])
        for name in weights
        if re.match(rf"{re.escape(prefix)}\.\d+\.", name)
    }
    return len(found)
