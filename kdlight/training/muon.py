"""Muon for matrices beside AdamW for the rest, as one optimizer of a part."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """The factor ``U V^T`` of a matrix, its singular values brought near 1 (Jordan et al. 2024).

    In bfloat16 on a GPU; in float32 on a CPU, which without instructions for bfloat16 multiplies it
    ten times slower.

    Args:
        matrix: (rows, columns).
        coefficients: Of X, X X^T X and (X X^T)^2 X in an iteration of Newton-Schulz.
        steps: Iterations.
        eps: Least norm that the matrix is divided by.

    Returns:
        (rows, columns).
    """
    linear, cubic, quintic = coefficients
    found = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = matrix.size(0) > matrix.size(1)
    found = found.T if tall else found
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(
            found, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), found, beta=linear
        )
    return found.T if tall else found


class Muon(torch.optim.Muon):
    """PyTorch's Muon with Nesterov's momentum, its step as large as AdamW's (arXiv:2502.16982).

    PyTorch orthogonalises in bfloat16 wherever it runs; this one by :func:`orthogonalised`. The
    closure is for :class:`MuonWithAdamW`, whose rule it is.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                average = state["momentum_buffer"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])
                update = orthogonalised(
                    ahead, group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                size = 0.2 * math.sqrt(max(parameter.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * size)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for parameters of two dimensions, PyTorch's AdamW for all others.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum of a matrix; its step is
    scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so one learning rate and
    one schedule serve both. On GPUs it orthogonalises in bfloat16: two ranks equal one to the
    rounding of that, and not to float32's.

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
                Muon(matrices, lr, ns_steps=orthogonal_steps, adjust_lr_fn="match_rms_adamw")
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
