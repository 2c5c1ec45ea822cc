"""What lists of hypotheses hold: the errors of the first, of the best, and of the best words."""

import torch
from torch import Tensor


def list_errors(hypotheses: Tensor, truth: Tensor) -> dict[str, float]:
    """Word error rates of aligned lists, where an error is a place with another word.

    Args:
        hypotheses: (B, N, L) int64.
        truth: (B, L) int64.

    Returns:
        ``wer`` of the first hypotheses, ``oracle_wer`` of the best of each list, and
        ``compositional_wer`` of the best word of each place: each at most the one before.
    """
    wrong = hypotheses != truth[:, None]
    return {
        "wer": float(wrong[:, 0].double().mean()),
        "oracle_wer": float(wrong.double().mean(dim=2).amin(dim=1).mean()),
        "compositional_wer": float(wrong.all(dim=1).double().mean()),
    }


def explained(rows: Tensor, values: Tensor, penalty: float = 1.0) -> float:
    """R^2 of ridge regression, fitted to the even rows and asked about the odd ones.

    Args:
        rows: Features (N, D), standardised here.
        values: (N,).
        penalty: Weight of the squared norm, beside the sum of squared errors.

    Returns:
        At most 1; 0 and below where the features say nothing.
    """
    seen, held = rows[::2].double(), rows[1::2].double()
    mean, scale = seen.mean(dim=0), seen.std(dim=0).clamp(min=1e-8)
    seen, held = (seen - mean) / scale, (held - mean) / scale
    known, asked = values[::2].double(), values[1::2].double()
    square = seen.T @ seen + penalty * torch.eye(seen.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(square, seen.T @ (known - known.mean()))
    error = (held @ weights + known.mean() - asked).square().mean()
    return float(1 - error / asked.var(correction=0))
