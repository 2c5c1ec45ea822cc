"""Activations recomputed in the backward pass instead of kept: time for memory."""

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kdlight.errors import InputError


class RecomputedBlock(nn.Module):
    """Base of blocks of which the backward pass may keep the input alone.

    Attributes:
        recomputes: Whether it does.
    """

    recomputes = False

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features (B, ...) under the embedding (B, E), of the same batch."""
        if not (self.recomputes and torch.is_grad_enabled()):
            return self.evaluate(x, embedding)
        # Dropout draws the same again.
        output: Tensor = checkpoint(self.evaluate, x, embedding, use_reentrant=False)
        return output

    def evaluate(self, x: Tensor, embedding: Tensor) -> Tensor:
        """What the block is."""
        raise NotImplementedError


def checkpoint_activations(module: nn.Module) -> None:
    """Let every network inside ``module`` that can recompute its activations.

    Raises:
        InputError: There is none that can.
    """
    able = [part for part in module.modules() if isinstance(part, ModelMixin | RecomputedBlock)]
    if not able:
        raise InputError(
            f"checkpointing: expected a network of diffusers or of blocks that can be recomputed "
            f"(kdlight.networks.checkpointing.RecomputedBlock), found a "
            f"{type(getattr(module, 'network', module)).__name__}."
        )
    for part in able:
        if isinstance(part, RecomputedBlock):
            part.recomputes = True
        else:
            part.enable_gradient_checkpointing()
