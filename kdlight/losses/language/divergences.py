"""How far a student's next-token law q is from its teacher's p: pure functions of logarithms.

All take ``log_p`` and ``log_q`` (..., V), normalised, and return (...). Mixtures are formed of
logarithms: ``(a * p + (1 - a) * q).log()``, as public programs have it, underflows to NaN.
"""

import math

import torch
from torch import Tensor


def _expected(log_weight: Tensor, value: Tensor) -> Tensor:
    """Sum of ``exp(log_weight) * value``; what has no weight does not count, even if infinite."""
    zero = torch.zeros((), dtype=value.dtype, device=value.device)
    return (log_weight.exp() * torch.where(log_weight > -torch.inf, value, zero)).sum(dim=-1)


def mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """Log of ``share * p + (1 - share) * q``, (..., V)."""
    first = math.log(share) if share > 0 else -math.inf
    second = math.log1p(-share) if share < 1 else -math.inf
    return torch.logaddexp(log_p + first, log_q + second)


def forward_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q). Its gradient in the student's logits is q - p: it covers all that p does."""
    return _expected(log_p, log_p - log_q)


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(q || p): it leaves out what q cannot hold (MiniLLM, arXiv:2306.08543)."""
    return forward_kl(log_q, log_p)


def jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float = 0.5) -> Tensor:
    """``beta KL(p || m) + (1 - beta) KL(q || m)``, m being ``beta p + (1 - beta) q``.

    GKD, arXiv:2306.13649, eq. 1. Divided by beta it tends to KL(p || q) for beta to 0, by
    1 - beta to KL(q || p) for beta to 1. TRL's loss *is* these two at beta 0 and 1, so its size
    jumps by 1 / beta there; between them it is this one.

    Args:
        log_p: Teacher.
        log_q: Student.
        beta: In (0, 1).
    """
    middle = mixture(log_p, log_q, beta)
    return beta * forward_kl(log_p, middle) + (1 - beta) * forward_kl(log_q, middle)


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``sum |p - q| / 2``, in [0, 1]: how often a draft q of the target p is rejected."""
    return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2


def log_acceptance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``-log sum min(p, q)``: its gradient is that of the total variation over the acceptance.

    It is alive where the two hardly overlap and the total variation is flat.
    """
    return -torch.minimum(log_p, log_q).logsumexp(dim=-1)


def skewed_forward_kl(log_p: Tensor, log_q: Tensor, skew: float = 0.1) -> Tensor:
    """KL(p || skew p + (1 - skew) q) (DistiLLM, arXiv:2402.03898); skew 0 is KL(p || q)."""
    return forward_kl(log_p, mixture(log_p, log_q, skew))


def skewed_reverse_kl(log_p: Tensor, log_q: Tensor, skew: float = 0.1) -> Tensor:
    """KL(q || (1 - skew) p + skew q) (DistiLLM); skew 0 is KL(q || p)."""
    return forward_kl(log_q, mixture(log_q, log_p, skew))


def adaptive_kl(log_p: Tensor, log_q: Tensor, head: float = 0.5) -> Tensor:
    """Both KLs, weighed by where the two laws differ (AKL, arXiv:2404.02657).

    The head is the smallest set of the teacher's likeliest tokens that holds at least the mass
    ``head``; KL(p || q) has the share of ``sum |p - q|`` that lies in it. The weights carry no
    gradient. (TAID's program lays the mask of sorted tokens on unsorted ones.)
    """
    p, q = log_p.detach().exp(), log_q.detach().exp()
    ordered, order = p.sort(dim=-1, descending=True)
    gap = (p - q).abs().gather(-1, order)
    inside = ordered.cumsum(dim=-1) - ordered < head
    total = gap.sum(dim=-1)
    share = (gap * inside).sum(dim=-1) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return share * forward_kl(log_p, log_q) + (1 - share) * reverse_kl(log_p, log_q)


def alpha_beta(log_p: Tensor, log_q: Tensor, alpha: float = 0.2, beta: float = 0.7) -> Tensor:
    """The alpha-beta divergence (Cichocki et al. 2011; ABKD, arXiv:2505.04560).

    ``-1 / (alpha beta) sum (p^alpha q^beta - alpha / s p^s - beta / s q^s)`` with s their sum.
    (1, 0) is KL(p || q), (0, 1) is KL(q || p), (1, 1) half the squared distance, (1/2, 1/2)
    ``2 |sqrt p - sqrt q|^2``. Where one of the two is 0 the limit is taken in closed form.
    """
    if beta == 0:
        return _alpha_alone(log_p, log_q, alpha)
    if alpha == 0:
        return _alpha_alone(log_q, log_p, beta)
    total = alpha + beta
    product = (alpha * log_p + beta * log_q).exp()
    own = (alpha * (total * log_p).exp() + beta * (total * log_q).exp()) / total
    return (own - product).sum(dim=-1) / (alpha * beta)


def _alpha_alone(log_p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """The limit ``sum (p^alpha log (p / q)^alpha - p^alpha + q^alpha) / alpha^2``."""
    first, second = alpha * log_p, alpha * log_q
    return (_expected(first, first - second) + (second.exp() - first.exp()).sum(-1)) / alpha**2


def deviation_aware(log_p: Tensor, log_q: Tensor, gamma: float) -> Tensor:
    """``(H(p) H(q))^gamma`` times ``-sum p log q`` (DB-LLM, arXiv:2402.11960, section 3.3).

    Where both laws are undecided counts more. The weight has no gradient: else a student would
    learn to be certain. With gamma 0 it is the soft cross-entropy.

    Args:
        log_p: Teacher.
        log_q: Student.
        gamma: At least 0.
    """
    entropies = [-_expected(log, log).detach() for log in (log_p, log_q)]
    return (entropies[0] * entropies[1]).clamp(min=0) ** gamma * -_expected(log_p, log_q)
