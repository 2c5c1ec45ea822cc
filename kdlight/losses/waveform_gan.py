"""Adversarial losses over several judges of audio, and feature matching."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranks import joint_sum

Logits = Sequence[Tensor]
Features = Sequence[Sequence[Tensor]]
Kind = Literal["least_squares", "hinge"]


def generator_loss(fake: Logits, kind: Kind) -> Tensor:
    """How far the judges are from taking decoded audio for real, mean over judges, ().

    Args:
        fake: Logits of decoded audio of each judge.
        kind: ``least_squares``: ``(1 - D)^2`` (LSGAN, arXiv:1611.04076; HiFi-GAN, DAC).
            ``hinge``: ``max(0, 1 - D)`` (EnCodec, arXiv:2210.13438, equation 4).
    """
    term: Callable[[Tensor], Tensor] = {
        "least_squares": lambda logits: (1 - logits).square().mean(),
        "hinge": lambda logits: nn.functional.relu(1 - logits).mean(),
    }[kind]
    return torch.stack([term(logits) for logits in fake]).mean()


def discriminator_loss(real: Logits, fake: Logits, kind: Kind) -> Tensor:
    """How badly the judges tell real from decoded audio, mean over judges, ().

    Args:
        real: Logits of recorded audio of each judge.
        fake: Logits of decoded audio of each judge.
        kind: ``least_squares``: ``(1 - D(real))^2 + D(fake)^2``. ``hinge``:
            ``max(0, 1 - D(real)) + max(0, 1 + D(fake))`` (EnCodec, equation 5).
    """
    relu = nn.functional.relu
    term: Callable[[Tensor, Tensor], Tensor] = {
        "least_squares": lambda r, f: (1 - r).square().mean() + f.square().mean(),
        "hinge": lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(),
    }[kind]
    return torch.stack([term(r, f) for r, f in zip(real, fake, strict=True)]).mean()


def feature_matching(real: Features, fake: Features, relative: bool) -> Tensor:
    """Mean L1 distance between what layers see of recorded and of decoded audio, ().

    Args:
        real: Features of recorded audio, by judge and layer; held.
        fake: Features of decoded audio.
        relative: Divide each layer by the mean magnitude of the real features (EnCodec, equation
            3), so that no layer counts for its scale. HiFi-GAN and DAC do not.
    """
    layers = [
        (r.detach(), f)
        for real_layers, fake_layers in zip(real, fake, strict=True)
        for r, f in zip(real_layers, fake_layers, strict=True)
    ]
    distances = torch.stack([(r - f).abs().mean() for r, f in layers])
    if relative:
        magnitudes = torch.stack([r.abs().mean() for r, _ in layers])
        # Of the joint batch, or two ranks would learn from other losses than one.
        joint = joint_sum(torch.cat([magnitudes, magnitudes.new_ones(1)]))
        distances = distances / (joint[:-1] / joint[-1]).clamp(min=1e-8)
    return distances.mean()
