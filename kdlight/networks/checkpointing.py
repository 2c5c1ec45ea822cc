"""Activations recomputed in the backward pass instead of kept: time for memory."""

from diffusers import ModelMixin
from torch import nn

from kdlight.errors import InputError


def checkpoint_activations(module: nn.Module) -> None:
    """Let every network of diffusers inside ``module`` recompute its activations.

    Raises:
        InputError: There is none that can.
    """
    able = [part for part in module.modules() if isinstance(part, ModelMixin)]
    if not able:
        raise InputError(
            f"checkpointing: expected a network of diffusers, such as UNet2D, which can recompute "
            f"its activations, found a {type(getattr(module, 'network', module)).__name__}."
        )
    for part in able:
        part.enable_gradient_checkpointing()
