"""How one named part of a method is optimised: the optimizer, its schedule, its clipping."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from kdlight.errors import InputError
from kdlight.training.muon import MuonWithAdamW


@dataclass
class Optimization:
    """Settings of one optimizer, written in YAML under the name of the part it trains.

    Args:
        algorithm: Optimizer; ``adam`` is AdamW with ``weight_decay`` 0; ``muon`` has Muon for
            matrices and AdamW for the rest; ``adam_8bit`` is AdamW with moments of 8 bits, of the
            package bitsandbytes.
        lr: Peak learning rate.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        eps: Denominator offset.
        weight_decay: Decoupled weight decay.
        warmup: Iterations of linear warm-up.
        decay: Shape after warm-up and ``hold``: linear or cosine over the rest of the stage, down
            to ``final_lr``; or ``inverse_sqrt``, ``sqrt(hold / step)`` (Karras et al. 2024,
            arXiv:2312.02696, eq. 67).
        final_lr: Learning rate at the end, as a share of ``lr``.
        hold: Iteration at which the learning rate begins to fall.
        clip: Largest norm of the joint gradient; None for no clipping.
        fused: Whether one kernel does all of ``adam``'s update; equal to rounding, not to the bit.
    """

    algorithm: Literal["adam", "radam", "muon", "adam_8bit"] = "adam"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 0
    decay: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "constant"
    final_lr: float = 0.0
    hold: int = 0
    clip: float | None = None
    fused: bool = False

    def __post_init__(self) -> None:
        for name in ("lr", "eps", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name}: expected a number above 0, found {value}.")
        for name in ("weight_decay", "warmup", "final_lr", "hold"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(f"{name}: expected a number of at least 0, found {value}.")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{name}: expected a number in [0, 1), found {value}.")

    def hyperparameters(self) -> dict[str, Any]:
        """What the configuration, not the checkpoint, decides when a run is resumed."""
        return {
            "betas": (self.beta1, self.beta2),
            "eps": self.eps,
            "weight_decay": self.weight_decay,
        } | self._kernels()

    def _kernels(self) -> dict[str, bool]:
        """How AdamW computes; a checkpoint brings along how it was computed there."""
        return {"foreach": not self.fused, "fused": self.fused} if self.algorithm == "adam" else {}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over ``parameters``."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if self.algorithm == "radam":
            return torch.optim.RAdam(
                trained, lr=self.lr, decoupled_weight_decay=True, **self.hyperparameters()
            )
        if self.algorithm == "muon":
            return MuonWithAdamW(trained, self.lr, **self.hyperparameters())
        if self.algorithm == "adam_8bit":
            try:
                from bitsandbytes.optim import AdamW8bit
            except ImportError:
                raise InputError(
                    "algorithm: adam_8bit needs the package bitsandbytes, which is not installed: "
                    "pip install bitsandbytes."
                ) from None
            made: torch.optim.Optimizer = AdamW8bit(trained, self.lr, **self.hyperparameters())
            return made
        return torch.optim.AdamW(trained, lr=self.lr, **self.hyperparameters())

    def lr_at(self, step: int, total: int) -> float:
        """Learning rate of iteration ``step`` (from 0) of a stage of ``total`` iterations."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        start = max(self.warmup, self.hold)
        done = min(1.0, max(0, step - start) / max(1, total - start))
        if self.decay == "linear":
            share = 1 - done
        elif self.decay == "cosine":
            share = 0.5 + 0.5 * math.cos(math.pi * done)
        elif self.decay == "inverse_sqrt":
            return self.lr / math.sqrt(max(1.0, step / max(1, self.hold)))
        else:
            return self.lr
        return self.lr * (self.final_lr + (1 - self.final_lr) * share)
