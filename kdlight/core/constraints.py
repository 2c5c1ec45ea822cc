"""Weights that are brought back to a set after every update, such as rows of unit magnitude."""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Constrained(Protocol):
    """A module with such weights."""

    def constrain(self) -> None:
        """Bring them back."""


def constrain(module: nn.Module) -> None:
    """Bring back the weights of all parts of ``module`` that are constrained."""
    for part in module.modules():
        if isinstance(part, Constrained):
            part.constrain()
