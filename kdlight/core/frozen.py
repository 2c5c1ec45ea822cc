"""Frozen parts: known by the hash of their weights, absent from every checkpoint."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

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


@contextlib.contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """No gradient for the weights of ``module``; it still flows through to the module's input.

    What a graph is built with counts: after the block the graph may be walked back at any time.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@runtime_checkable
class PartlyFrozen(Protocol):
    """A module of which only a part is ever trained, such as one with adapters."""

    def freeze(self) -> None:
        """Let that part be trained, and nothing else."""


Trained = TypeVar("Trained", bound=nn.Module)


def unfrozen(module: Trained) -> Trained:
    """``module`` with all its weights to be trained, but for those that never are."""
    module.requires_grad_(True)
    for part in module.modules():
        if isinstance(part, PartlyFrozen):
            part.freeze()
    return module


def drop_frozen(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any
) -> None:
    """State-dict hook: leave the frozen parts out, and what other parts share with them."""
    shared = _shared(module)
    for key in list(state_dict):
        name = key.removeprefix(prefix)
        if name.partition(".")[0] in _names(module) or name in shared or _lent(module, name):
            del state_dict[key]


def forgive_frozen(module: nn.Module, incompatible_keys: Any) -> None:
    """Load hook: a frozen part need not be in the file."""
    shared = _shared(module)
    missing = incompatible_keys.missing_keys
    missing[:] = [
        key
        for key in missing
        if key.partition(".")[0] not in _names(module)
        and key not in shared
        and not _lent(module, key)
    ]


def _shared(module: nn.Module) -> set[str]:
    """Names of the parameters that a frozen part has too, as a base under adapters.

    But for those of the models that a checkpoint can be loaded as, which need no teacher.
    """
    kept = tuple(f"{prefix}." for prefix in module.models())  # type: ignore[operator]
    parts = (module.get_submodule(name) for name in _names(module))
    frozen = {id(parameter) for part in parts for parameter in part.parameters()}
    named = module.named_parameters(remove_duplicate=False)
    return {
        name for name, parameter in named if id(parameter) in frozen and not name.startswith(kept)
    }


def _lent(module: nn.Module, name: str) -> bool:
    """Whether a tensor is of a part that its models borrow from a teacher's file."""
    return name.startswith(tuple(f"{prefix}." for prefix in module.borrowed()))  # type: ignore[operator]


def _names(module: nn.Module) -> dict[str, str]:
    """Names of the frozen parts of a DistillationModule, with their hashes."""
    frozen = module.frozen
    assert isinstance(frozen, dict)
    return frozen
