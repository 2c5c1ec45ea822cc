"""Running statistics of batch normalisation, which a forward pass moves, update or not."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class RunningStatistics:
    """Those of a network, and what they were after its last update.

    One image that is no number makes them NaN for good, although the update is skipped.

    Args:
        module: The network.
    """

    def __init__(self, module: nn.Module) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, _NormBase)]
        self.live: list[Tensor] = [buffer for layer in layers for buffer in layer.buffers()]
        self.kept = [buffer.clone() for buffer in self.live]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them."""
        if self.live:
            torch._foreach_copy_(self.kept, self.live)

    @torch.no_grad()
    def take_back(self) -> None:
        """Return to what was remembered."""
        if self.live:
            torch._foreach_copy_(self.live, self.kept)
