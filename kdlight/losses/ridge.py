"""A linear head in closed form: what a network that learnt a small set would answer elsewhere."""

from typing import Literal

import torch
from torch import Tensor


def with_one(features: Tensor) -> Tensor:
    """Features (N, D) and a constant, (N, D + 1)."""
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


def ridge_predictions(
    asked: Tensor,
    known: Tensor,
    targets: Tensor,
    strength: float = 1e-6,
    form: Literal["shorter", "primal", "dual"] = "shorter",
) -> Tensor:
    """``[a, 1] [k, 1]^T (K + l I)^-1 targets``, ``K = [k, 1] [k, 1]^T`` (KRR-ST, arXiv:2310.06511).

    ``l`` is ``strength * trace(K)``, without gradient, and never 0, as it would be of a dead
    network. Solved in float64 with autocast off; no inverse is formed.

    Args:
        asked: Features whose targets are predicted, (B, D).
        known: Features of the small set, (n, D).
        targets: Of the small set, (n, T).
        strength: Of the regularisation, above 0.
        form: ``dual`` solves for n numbers a target, ``primal`` for D + 1; equal to rounding.
            ``shorter`` takes the smaller system.

    Returns:
        (B, T), float64.
    """
    with torch.autocast(asked.device.type, enabled=False):
        query, key, wanted = with_one(asked.double()), with_one(known.double()), targets.double()
        least = torch.finfo(torch.float64).eps
        amount = (strength * key.detach().square().sum()).clamp(min=least)
        if form == "dual" or (form == "shorter" and len(key) <= key.shape[1]):
            kernel = key @ key.T + amount * _eye(len(key), key)
            head: Tensor = key.T @ torch.linalg.solve(kernel, wanted)
        else:
            gram = key.T @ key + amount * _eye(key.shape[1], key)
            head = torch.linalg.solve(gram, key.T @ wanted)
        return query @ head


def _eye(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)
