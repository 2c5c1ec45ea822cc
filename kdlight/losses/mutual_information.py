"""A lower bound of mutual information from a critic's scores of pairs, and its gradient.

A critic scores pairs: ``joint`` (N,) of samples that belong together, ``product`` (M,) of samples
of which each comes from anywhere: a draw of the product of marginals. The bound is in nats
and to be maximised over the critic.
"""

import math

import torch
from torch import Tensor


def dv_bound(joint: Tensor, product: Tensor) -> Tensor:
    """Donsker and Varadhan's, as MINE takes it (arXiv:1801.04062): ``E T - log E exp T``, ().

    Its estimate of a small batch is too high, for the logarithm of a mean is.
    """
    return joint.mean() - (torch.logsumexp(product, dim=0) - math.log(len(product)))


def mine_surrogate(joint: Tensor, product: Tensor, average: Tensor) -> Tensor:
    """What has MINE's gradient without its bias (section 3.2), ().

    The gradient of ``log E exp T`` is ``E[exp T grad T] / E exp T``. A batch's own mean in the
    denominator goes with the numerator, and the ratio is biased; a slow ``average`` of ``E exp T``
    over batches is not.

    Args:
        joint: (N,).
        product: (M,).
        average: Running mean of ``exp(product)``, (), held.
    """
    return joint.mean() - product.exp().mean() / average.detach()
