"""Muon for matrices beside AdamW for the rest, as one optimizer of a part."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class MuonWithAdamW(torch.optim.Optimizer):
    """PyTorch's Muon for parameters of two dimensions, its AdamW for all others.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum of a matrix; its step is
    scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so one learning rate and
    one schedule serve both. It orthogonalises in bfloat16: two ranks equal one to the rounding of
    that, and not to float32's.

    Args:
        parameters: What is trained.
        lr: Learning rate.
        orthogonal_steps: Newton-Schulz iterations of a step.
        hyperparameters: ``betas``, ``eps`` and ``weight_decay``; the momentum of Muon is 0.95.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        orthogonal_steps: int = 5,
        **hyperparameters: Any,
    ) -> None:
        trained = list(parameters)
        matrices = [parameter for parameter in trained if parameter.ndim == 2]
        others = [parameter for parameter in trained if parameter.ndim != 2]
        self.rules: list[torch.optim.Optimizer] = []
        if matrices:
            self.rules.append(
                torch.optim.Muon(
                    matrices, lr, ns_steps=orthogonal_steps, adjust_lr_fn="match_rms_adamw"
                )
            )
        if others:
            self.rules.append(torch.optim.AdamW(others, lr, foreach=True))
        groups = [group | hyperparameters for rule in self.rules for group in rule.param_groups]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for rule, group in zip(self.rules, self.param_groups, strict=True):
            # Settings and moments live here, where checkpoints find them.
            rule.param_groups, rule.state = [group], self.state
            rule.step()
        return loss
