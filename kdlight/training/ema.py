"""Exponential moving average of a network's weights, part of the method that uses it."""

import copy
import math
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from kdlight.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


class _Followed:
    """The tensors of an average and of the network it follows.

    Kept from update to update: walking through the modules of a small network takes as long as
    moving its average.
    """

    def __init__(self, average: nn.Module, module: nn.Module) -> None:
        self.module = module
        weights = zip(average.parameters(), module.parameters(), strict=True)
        # What the two share, under adapters, is its own average.
        moved = [(kept, weight) for kept, weight in weights if kept is not weight]
        self.averages: list[Tensor] = [kept for kept, _ in moved]
        self.weights: list[Tensor] = [weight for _, weight in moved]
        self.kept, self.buffers = list(average.buffers()), list(module.buffers())


class EMA(nn.Module, Generic[Module]):
    """Keeps a frozen average of a network; saved, resumed and moved with the module it is part of.

    It is a part, not a callback, because methods need it: a round of progressive distillation
    starts from it, consistency distillation regresses onto it. It counts updates of its own
    network only.

    Attributes:
        module: The averaged network, frozen and in evaluation mode.
        updates: How often the average has moved.

    Args:
        module: The network that is averaged; a copy is kept.
        half_life: Half-life of the average in updates. 0 keeps the latest weights.
        ramp: Early on the half-life is at most ``ramp`` times the number of updates, so that
            the start is forgotten (EDM, arXiv:2206.00364, uses 0.05). 0 for no ramp.
        evaluation: Whether the average stays in evaluation mode whatever its method does. An
            average that students regress onto shares their dropout instead.
    """

    module: Module

    def __init__(
        self,
        module: Module,
        half_life: float = 500.0,
        ramp: float = 0.05,
        evaluation: bool = True,
    ) -> None:
        super().__init__()
        if half_life < 0 or ramp < 0:
            raise InputError(
                f"half_life: expected half_life >= 0 and ramp >= 0, found {half_life} and {ramp}."
            )
        self.half_life = half_life
        self.ramp = ramp
        self.updates = 0
        self.evaluation = evaluation
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.train()
        self._followed: _Followed | None = None

    def train(self, mode: bool = True) -> "EMA[Module]":
        """Stay in evaluation mode whatever the method's module is told, if made so."""
        return super().train(mode and not self.evaluation)

    def follow(self, decay: float) -> None:
        """Let the next updates have this ``decay`` in [0, 1)."""
        self.half_life = math.log(0.5) / math.log(decay) if decay > 0 else 0.0

    def decay(self) -> float:
        """Decay of the next update."""
        half_life = self.half_life
        if self.ramp > 0:
            half_life = min(half_life, self.ramp * self.updates)
        return 0.5 ** (1 / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, module: Module) -> None:
        """Move the average towards ``module``; buffers are copied."""
        followed = self._followed
        if followed is None or followed.module is not module:
            followed = self._followed = _Followed(self.module, module)
        torch._foreach_lerp_(followed.averages, followed.weights, 1 - self.decay())
        if followed.buffers:
            torch._foreach_copy_(followed.kept, followed.buffers)
        self.updates += 1

    @torch.no_grad()
    def restart(self, module: Module) -> None:
        """Forget the average: a copy of ``module``, no updates."""
        self.module.load_state_dict(module.state_dict())
        self.updates = 0

    def _apply(self, *args: Any, **kwargs: Any) -> "EMA[Module]":
        # Moved or cast: buffers are other tensors now.
        self._followed = None
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def get_extra_state(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.updates = int(state["updates"])
