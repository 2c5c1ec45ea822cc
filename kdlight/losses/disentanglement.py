"""Losses that keep something out of a representation: an adversary's, and those that hide from it.

All are means over the joint batch of all ranks, of what a mask counts; zero if it counts nothing.
"""

import torch.nn.functional as F
from torch import Tensor

from kdlight.losses.guidance import EPS, cosine_loss, global_contrastive_loss, mean_where


def voice_contrast(first: Tensor, second: Tensor, some: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two chunks: each finds the other of its own recording among the batch.

    Args:
        first: Vectors (B, E) of one chunk of every recording.
        second: (B, E), of another.
        some: Recordings that count, (B,).
        temperature: Divides the cosines.

    Returns:
        (); ``log N`` for N equal recordings, ``log(1 + (N - 1) exp(-1 / temperature))`` where
        recordings are orthogonal and chunks of one equal.
    """
    return global_contrastive_loss(first[:, None], second[:, None], some[:, None], temperature)


def guess_loss(guess: Tensor, voice: Tensor, some: Tensor) -> Tensor:
    """What an adversary minimises: one minus the cosine of its guess (B, E) with ``voice``, ()."""
    return cosine_loss(guess[:, None], voice[:, None], some[:, None])


def exposure_loss(guess: Tensor, voice: Tensor, some: Tensor) -> Tensor:
    """What content minimises: the squared cosine of the adversary's guess with ``voice``, ().

    Least at 0. The negative of :func:`guess_loss` is least at a cosine of -1, from which the voice
    is known as well as from 1.
    """
    return mean_where(F.cosine_similarity(guess, voice, dim=-1, eps=EPS).square(), some)


def corpus_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """How badly a critic tells two corpora apart, by least squares, ().

    Half of ``mean (D - 1)^2`` over the target's frames and ``mean D^2`` over the others: 1/4 where
    nothing tells them apart and D is 1/2, however many frames each has.

    Args:
        logits: D of every frame, (B, F).
        target: Items of the target corpus, (B,) bool.
        mask: Frames that count, (B, F).
    """
    own, other = mask & target[:, None], mask & ~target[:, None]
    return (mean_where((logits - 1).square(), own) + mean_where(logits.square(), other)) / 2


def confusion_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """How far a critic is from taking the other corpus for the target: ``mean (D - 1)^2``, ()."""
    return mean_where((logits - 1).square(), mask & ~target[:, None])
