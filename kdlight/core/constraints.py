"""Weights that are brought back to a set after every update, such as rows of unit magnitude."""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Constrained(Protocol):
    """A module with such weights."""

    def constrain(self) -> None:
        """Bring them back."""


def constrained(module: nn.Module) -> list[Constrained]:
    """All parts of ``module`` that are constrained.

    To be asked for once: to look through the parts of a small network takes a thirtieth of its
    training step.
    """
    return [part for part in module.modules() if isinstance(part, Constrained)]
