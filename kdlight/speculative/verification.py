"""Which drafted tokens the target keeps (Leviathan et al., arXiv:2211.17192, algorithm 1)."""

import torch
from torch import Tensor

from kdlight.discrete.categorical import draw


def residual(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Log of max(p - q, 0), unnormalised: the law of the token that replaces a rejected one.

    Args:
        log_p: Target, (..., V) float64, normalised.
        log_q: Draft, (..., V) float64, normalised.
    """
    left = (log_p.exp() - log_q.exp()).clamp(min=0)
    # Equal laws reject nothing; what is drawn then is never used, but must be drawable.
    none = (left.sum(dim=-1, keepdim=True) == 0).expand_as(left)
    return torch.where(none, log_p, left.log())


def accepted(log_p: Tensor, log_q: Tensor, drafted: Tensor, accept: Tensor) -> Tensor:
    """How many drafted tokens are kept up to the first rejection, (...) int64 in 0 to G.

    Args:
        log_p: Target at the drafted places, (..., G, V) float64, normalised.
        log_q: Draft, (..., G, V) float64, normalised.
        drafted: (..., G) int64.
        accept: Uniform numbers, (..., G) float64.
    """
    own = drafted[..., None]
    ratio = (log_p.gather(-1, own) - log_q.gather(-1, own))[..., 0].exp()
    return (accept < ratio).long().cumprod(dim=-1).sum(dim=-1)


def verify(
    target: Tensor, draft: Tensor, drafted: Tensor, accept: Tensor, replace: Tensor
) -> tuple[Tensor, Tensor]:
    """Keep drafted tokens up to the first rejection, and draw one more.

    Token x is kept with probability ``min(1, p(x) / q(x))``; the first that is not is replaced by a
    draw of the residual; behind a whole accepted draft the target draws a token of its own. The
    tokens have the target's law whatever the draft, if both logits are of the same temperature and
    truncation as the draft was drawn with.

    Args:
        target: Logits at the drafted places and the one behind them, (B, G + 1, V).
        draft: Logits that the tokens were drawn from, (B, G, V).
        drafted: (B, G) int64.
        accept: Uniform numbers, (B, G) float64.
        replace: Uniform numbers, (B,) float64.

    Returns:
        How many are kept, (B,) int64 in 0 to G, and the token behind them, (B,) int64.
    """
    log_p, log_q = target.double().log_softmax(dim=2), draft.double().log_softmax(dim=2)
    kept = accepted(log_p[:, :-1], log_q, drafted, accept)
    behind = torch.cat([residual(log_p[:, :-1], log_q), log_p[:, -1:]], dim=1)
    rows = torch.arange(len(kept), device=kept.device)
    return kept, draw(behind[rows, kept], replace)


def acceptance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Probability that the target keeps a token of the draft, ``sum min(p, q)``, (...)."""
    return torch.minimum(log_p, log_q).exp().sum(dim=-1)


def expected_block(rate: float, length: int) -> float:
    """Tokens a target call gives if every drafted token is kept with probability ``rate``.

    ``(1 - rate^(length + 1)) / (1 - rate)`` (arXiv:2211.17192, eq. 1). Exact for independent
    acceptances only; what sequences give is measured
    (:attr:`~kdlight.speculative.decoding.SpeculativeSample.block_efficiency`).

    Args:
        rate: Acceptance, in [0, 1].
        length: Drafted tokens of a block.
    """
    return sum(rate**power for power in range(length + 1))
