"""What the hidden layers of a network say on its way to an answer."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from kdlight.errors import InputError


def require_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Refuse names that are no submodules of ``network``, and an empty list.

    Raises:
        InputError: A name is unknown, or there is none.
    """
    known = dict(network.named_modules())
    missing = [name for name in layers if name not in known]
    if missing or not layers:
        raise InputError(
            f"layers: expected names of submodules such as {', '.join(list(known)[1:4])}, "
            f"found {', '.join(missing) or 'none'}."
        )


@contextlib.contextmanager
def recorded(network: nn.Module, layers: Sequence[str]) -> Iterator[list[Tensor]]:
    """The outputs of the submodules ``layers`` during the block, in the order they were made."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        # Blocks that carry text along give it first, the picture last.
        seen.append(output[-1] if isinstance(output, tuple) else output)

    hooks = [network.get_submodule(name).register_forward_hook(keep) for name in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
