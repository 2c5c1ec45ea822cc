"""How far two blocks are that read the same tokens (MOHAWK, arXiv:2408.10189).

Lengths, not their squares: the gradient is as long near the end as at the start, so the rate has to
fall. Torch's norms have gradient 0 at 0, where a root of a sum of squares has none.
"""

import torch
from torch import Tensor


def matrix_distance(student: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
    """Frobenius norm of the difference of two mixing matrices, (B, H) (eq. 6).

    Args:
        student: (B, H, T, T).
        teacher: (B, H, T, T).
        rows: Which positions count, (B, T) bool.
    """
    difference = (student - teacher) * rows[:, None, :, None]
    distance: Tensor = torch.linalg.vector_norm(difference, dim=(2, 3))
    return distance


def state_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Length of the difference of two states, (B, T), of states (B, T, D) (eq. 7)."""
    distance: Tensor = torch.linalg.vector_norm(student - teacher, dim=2)
    return distance
