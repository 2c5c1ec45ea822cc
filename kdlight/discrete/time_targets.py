"""What a masked model says of each position on its way through several steps."""

import torch
from torch import Tensor

from kdlight.discrete.categorical import draw
from kdlight.discrete.denoiser import TokenDenoiser
from kdlight.discrete.masking import is_masked


@torch.no_grad()
def walked_log_probs(
    denoiser: TokenDenoiser, seen: Tensor, time: Tensor, step: float, uniform: Tensor
) -> Tensor:
    """Log-probabilities that a position had in the call in which its token was revealed.

    Where it stays masked: those of the last call (Deschenaux and Gulcehre, SDTT, arXiv:2410.21035,
    algorithm 1). With an exact model that reveals a token a call their mean is the model's own
    conditional at ``seen``, by the tower property.

    Args:
        denoiser: The teacher.
        seen: (B, L) with masks, each with probability ``time``.
        time: t of each row, (B,), at least as many steps above 0 as are walked.
        step: Width of a step; in one from t to t - step a mask is revealed with probability
            step / t.
        uniform: Numbers in [0, 1), (B, n, 2, L), for n steps: which are revealed, and as what.

    Returns:
        (B, L, V); at positions visible in ``seen`` of no meaning.
    """
    tokens, found = seen, None
    for index in range(uniform.shape[1]):
        masked = is_masked(tokens, denoiser.vocabulary)
        log_probs = denoiser(tokens)
        found = log_probs if found is None else torch.where(masked[..., None], log_probs, found)
        left = (time - index * step)[:, None]
        revealed = masked & (uniform[:, index, 0] * left < step)
        tokens = torch.where(revealed, draw(log_probs, uniform[:, index, 1]), tokens)
    assert found is not None
    return found
