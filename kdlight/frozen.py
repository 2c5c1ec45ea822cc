"""Frozen parts: known by the hash of their weights, absent from every checkpoint."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def digest(module: nn.Module) -> str:
    """SHA-256 over a module's tensors, in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in _tensors(module):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def drop_frozen(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any
) -> None:
    """State-dict hook: leave the frozen parts out."""
    for key in list(state_dict):
        if key.removeprefix(prefix).partition(".")[0] in _names(module):
            del state_dict[key]


def forgive_frozen(module: nn.Module, incompatible_keys: Any) -> None:
    """Load hook: a frozen part need not be in the file."""
    missing = incompatible_keys.missing_keys
    missing[:] = [key for key in missing if key.partition(".")[0] not in _names(module)]


def _names(module: nn.Module) -> dict[str, str]:
    """Names of the frozen parts of a DistillationModule, with their hashes."""
    frozen = module.frozen
    assert isinstance(frozen, dict)
    return frozen
