"""Losses of masked images: pixels of the patches left out, features and relations of those seen."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlight.losses.language.divergences import forward_kl


def patches_of(image: Tensor, side: int) -> Tensor:
    """Pixels of the patches of images (B, C, H, W), row by row, (B, N, C side side)."""
    return F.unfold(image, side, stride=side).transpose(1, 2)


def masked_pixel_error(predicted: Tensor, pixels: Tensor, keep: Tensor) -> Tensor:
    """Mean squared error over the patches that were left out (MAE, arXiv:2111.06377).

    Args:
        predicted: Of all patches, (B, N, P).
        pixels: The same shape.
        keep: Numbers of the patches that were seen, (B, n); those have no gradient.

    Returns:
        (); 0 if all were seen.
    """
    hidden = torch.ones_like(pixels[..., 0]).scatter(1, keep, 0.0)
    each = (predicted - pixels).square().mean(dim=2)
    return (each * hidden).sum() / hidden.sum().clamp(min=1)


def unit_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of ``|s / |s| - t / |t||`` over all numbers of all tokens (DMAE, arXiv:2208.12256).

    Unlike vectors of D numbers are about ``1.13 / sqrt(D)`` apart, so that a weight does not carry
    over from one width to another.

    Args:
        student: (B, N, D).
        teacher: (B, N, D).
    """
    student, teacher = (F.normalize(each.float(), dim=2) for each in (student, teacher))
    return (student - teacher).abs().mean()


def normed_smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 to the teacher's tokens, each brought to mean 0 and spread 1 (arXiv:2306.15876).

    Args:
        student: (B, N, D).
        teacher: (B, N, D).
    """
    target = F.layer_norm(teacher.float(), teacher.shape[2:])
    return F.smooth_l1_loss(student.float(), target)


def relation_kl(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], by_head: bool
) -> Tensor:
    """KL of what each token attends to: ``softmax(a b^T / sqrt(d))`` (arXiv:2306.15876).

    Queries and keys give one relation, values twice another. It does not change if both of a pair
    are rotated.

    Args:
        student: Two tensors, (B, heads, N, d).
        teacher: Two tensors of as many tokens.
        by_head: Whether head is compared with head, or the means over heads, for unlike numbers.

    Returns:
        ``KL(teacher || student)``, mean over tokens, ().
    """
    laws = []
    with torch.autocast(student[0].device.type, enabled=False):
        for first, second in (teacher, student):
            scores = first.float() @ second.float().transpose(2, 3) / math.sqrt(first.shape[3])
            law = scores.log_softmax(dim=3)
            laws.append(law if by_head else law.logsumexp(dim=1) - math.log(law.shape[1]))
        return forward_kl(laws[0].detach(), laws[1]).mean()
