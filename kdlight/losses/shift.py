"""Losses of students that learn from images of another origin than their teacher's (KD3)."""

import torch
from torch import Tensor

from kdlight.core.ranks import joint_rows, joint_sum

EPS = 1e-5


def surest(teacher: Tensor, student: Tensor, vote: float, threshold: float) -> Tensor:
    """Rows of which ``(1 - vote) teacher + vote student`` is surer than of others of their class.

    Off its own images a teacher is sure of nonsense; where the student votes otherwise, neither
    class gets the mass. A row is kept if its largest probability is at least ``threshold`` times
    the mean of those of the joint batch's rows of the same likeliest class: a plain bound would
    choose the easy classes, and none while the student is unsure of all.

    Args:
        teacher: Scores, (B, C).
        student: Scores, (B, C).
        vote: In [0, 1].
        threshold: 0 keeps all.

    Returns:
        (B,) bool.
    """
    said, own = (scores.detach().float().softmax(dim=1) for scores in (teacher, student))
    sure, guess = ((1 - vote) * said + vote * own).max(dim=1)
    sums = sure.new_zeros(said.shape[1], 2)
    sums.index_add_(0, guess, torch.stack([sure, torch.ones_like(sure)], dim=1))
    total, count = joint_sum(sums).unbind(dim=1)
    return sure >= threshold * (total / count.clamp(min=1))[guess]


def used_feature_error(student: Tensor, teacher: Tensor, layer: Tensor) -> Tensor:
    """``mean_k w_k (s_k - t_k)^2``: a feature counts as much as the class layer makes of it.

    Args:
        student: (B, K).
        teacher: (B, K).
        layer: Weights of the teacher's class layer, (C, K); ``w_k`` is the mean of their sizes over
            classes, over the mean of all.

    Returns:
        (B,).
    """
    use = layer.detach().abs().mean(dim=0)
    student, teacher = student.float(), teacher.float()
    return ((student - teacher) ** 2 * (use / use.mean().clamp(min=EPS))).mean(dim=1)


def mixed_statistics(maps: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """MixDistribution: maps whose means and spreads a channel lie between their own and another's.

    ``mean = a mean_1 + (1 - a) mean_2``, and the same of the spread; what remains after both are
    taken out stays. The other is of the joint batch, and without gradient.

    Args:
        maps: (B, C, H, W).
        order: Drawn numbers of this rank's rows, (B,): the others are the batch in their order.
        share: ``a``, (B,) in [0, 1].
    """
    mean = maps.mean(dim=(2, 3), keepdim=True)
    spread = (maps.var(dim=(2, 3), keepdim=True, unbiased=False) + EPS).sqrt()
    numbers = joint_rows(order)
    ranked = numbers.argsort()
    # The next one by the drawn numbers, so that none is its own other.
    partner = ranked[(torch.searchsorted(numbers[ranked], order.contiguous()) + 1) % len(ranked)]
    other = joint_rows(torch.cat([mean, spread], dim=1).detach())[partner]
    mean_2, spread_2 = other.chunk(2, dim=1)
    a = share.to(maps.dtype).view(-1, 1, 1, 1)
    return (maps - mean) / spread * (a * spread + (1 - a) * spread_2) + a * mean + (1 - a) * mean_2
