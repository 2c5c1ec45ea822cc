"""Frozen networks that wait in the host's memory and visit the device block by block."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from kdlight.core.whole import shards
from kdlight.errors import InputError
from kdlight.training.sharding import blocks_of, networks_of


class Visits:
    """The blocks of a method's teachers, each on the device only while it is called.

    Args:
        method: A :class:`~kdlight.training.base.DistillationModule`, on its device.
        frozen: Names of its frozen parts.
        device: Where the blocks are called.

    Raises:
        InputError: No frozen network is there whose weights are whole, and shared with nothing.
    """

    def __init__(self, method: nn.Module, frozen: list[str], device: torch.device) -> None:
        parts = nn.ModuleList(method.get_submodule(name) for name in frozen)
        others = {
            parameter
            for name, part in method.named_children()
            if name not in frozen
            for parameter in part.parameters()
        }
        # Alone, so that each is looked at as a part that a method holds.
        blocks = {
            block
            for part in parts
            for network in networks_of(nn.ModuleList([part]))
            for block in blocks_of(network)
            if not others.intersection(block.parameters())
        }
        if not blocks or shards(parts):
            raise InputError(
                "speed.offload_teacher: expected false where no frozen network has whole weights "
                "of its own, found true."
            )
        self._device = device
        self._home = {block: _homes(block, device) for block in blocks}
        self._hooks = [block.register_forward_pre_hook(self._arrive) for block in blocks]
        self._hooks += [block.register_forward_hook(self._leave) for block in blocks]
        for block in blocks:
            self._leave(block)

    def _arrive(self, block: nn.Module, inputs: Any) -> None:
        if torch.is_grad_enabled() and any(
            isinstance(each, Tensor) and each.requires_grad for each in tree_leaves(inputs)
        ):
            # The way back would meet weights that have left.
            raise InputError(
                "speed.offload_teacher: expected false for a method that follows gradients through "
                "its teacher, found true."
            )
        for tensor, home in self._home[block]:
            tensor.data = home.to(self._device, non_blocking=True, copy=True)

    def _leave(self, block: nn.Module, *_: Any) -> None:
        for tensor, home in self._home[block]:
            tensor.data = home

    def end(self) -> None:
        """Leave the networks as they are, on the host."""
        for hook in self._hooks:
            hook.remove()


def _homes(block: nn.Module, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The tensors of a block, with what they hold on the host: pinned, for a fast way to a GPU."""
    tensors = [*block.parameters(), *block.buffers()]
    homes = [tensor.detach().cpu() for tensor in tensors]
    if device.type == "cuda":
        homes = [home.pin_memory() for home in homes]
    return list(zip(tensors, homes, strict=True))
