"""Losses of answers of which one is preferred, and of experts that share the work."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlight.core.ranks import joint_sum
from kdlight.losses.language.objective import widened


def preference_loss(better: Tensor, worse: Tensor, beta: float) -> Tensor:
    """DPO: ``-log sigmoid(beta (better - worse))`` (Rafailov et al., arXiv:2305.18290).

    Its optimum over a policy is ``reference exp(reward / beta)``, normalised. Log-probabilities are
    sums over an answer's tokens, so that long answers weigh more. log 2 where the student is the
    reference, with the gradient ``-beta / 2`` towards the better answer.

    Args:
        better: log student - log reference of the preferred answer, (B,).
        worse: The same of the other, (B,).
        beta: How dear it is to leave the reference.

    Returns:
        (B,).
    """
    return -F.logsigmoid(beta * (better - worse))


def balance_loss(law: Tensor, chosen: Tensor) -> Tensor:
    """``E sum_e f_e P_e`` of E experts (Fedus et al., arXiv:2101.03961): 1 where all work alike.

    Args:
        law: What the router says, (N, E), each row a law.
        chosen: Experts of each token, (N, k) int64; ``f`` is their share, without gradient.

    Returns:
        (); at least about 1 where the router is of one mind with its choice.
    """
    experts = law.shape[1]
    used = F.one_hot(chosen, experts).to(law.dtype).sum(dim=(0, 1)).detach()
    # Of the joint batch; the law is linear in it, so that a mean over ranks is the whole.
    share = joint_sum(used) / joint_sum(used.sum())
    return experts * (share * law.mean(dim=0)).sum()


def answer_log_prob(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of answers, (B,), in at least float32.

    Args:
        logits: At each token's place, (B, T, V).
        tokens: (B, T) int64.
        mask: Which of them are the answer, (B, T) bool.
    """
    law = widened(logits).log_softmax(dim=2)
    each = law.gather(2, tokens[..., None])[..., 0]
    return torch.where(mask, each, 0.0).sum(dim=1)
