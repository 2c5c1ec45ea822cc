"""One level of a codec's codes filled in from masks, the surest codes first (MaskGIT's decoding).

As SoundStorm and Pheme (arXiv:2401.02839) use it for the levels above the first. What a call has
revealed is what the next call reads.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kdlight.discrete.categorical import draw
from kdlight.discrete.draws import RowDraws


def still_unknown(total: Tensor, unknown: Tensor, step: int, steps: int) -> Tensor:
    """How many codes of a row stay unknown behind a step: a cosine, and one less at least.

    Args:
        total: Codes that were unknown at the start, (B,).
        unknown: Codes that are unknown before this step, (B,).
        step: From 1.
        steps: Steps in all; none is unknown behind the last.

    Returns:
        (B,) int64.
    """
    share = math.cos(math.pi * step / (2 * steps))
    wanted = torch.floor(total.double() * share + 1e-9).long()
    return torch.minimum(wanted, unknown - 1).clamp(min=0)


@torch.no_grad()
def fill_level(
    logits_of: Callable[[Tensor], Tensor],
    codes: Tensor,
    mask_code: int,
    draws: RowDraws | None,
    steps: int,
    temperature: float = 1.0,
) -> Tensor:
    """Decide every unknown code of a level.

    In a step all unknown codes are drawn, and the least confident go back. Confidence is
    ``log p + T (1 - s / S) Gumbel``. The released program of Pheme calls its network with what it
    had before the first step, sixteen times: two codes that must agree then agree by chance
    (``tests/codec/test_level_filling.py``).

    Args:
        logits_of: Logits (B, F, K) of a level's codes (B, F), the unknown ones among them.
        codes: Codes of the level, (B, F) int64; those that are known (a prompt, padding) stay.
        mask_code: What an unknown code is; not among 0 to K - 1.
        draws: The rows' random numbers; None takes the likeliest code, and no Gumbel numbers.
        steps: Calls S.
        temperature: T.

    Returns:
        (B, F) int64.
    """
    codes = codes.clone()
    total = (codes == mask_code).sum(dim=1)
    for step in range(1, steps + 1):
        unknown = codes == mask_code
        if not bool(unknown.any()):
            break
        log_probs = logits_of(codes).double().log_softmax(dim=-1)
        noise: Tensor | float = 0.0
        if draws is None:
            drawn = log_probs.argmax(dim=-1)
        else:
            drawn = draw(log_probs, draws.uniform(codes.shape[1]))
            uniform = draws.uniform(codes.shape[1]).clamp(min=1e-300)
            noise = temperature * (1 - step / steps) * -torch.log(-torch.log(uniform))
        sure = log_probs.gather(2, drawn[..., None])[..., 0] + noise
        rank = sure.masked_fill(~unknown, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
        back = rank < still_unknown(total, unknown.sum(dim=1), step, steps)[:, None]
        codes = torch.where(unknown & ~back, drawn, codes)
    return codes
