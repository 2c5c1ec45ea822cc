"""What a router of experts learns from a dense network (Read-ME, arXiv:2410.19123)."""

import torch
from torch import Tensor, nn

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Nested sets of a token's most active units; how many and which is not in the paper."""


def expert_law(units: Tensor, masks: Tensor, sharpness: float = 10.0) -> Tensor:
    """Which expert holds what is active at a token, (B, T, E), rows that sum to 1.

    The share of the most active units that an expert has, averaged over :data:`SHARES`, centred
    over the experts, times ``sharpness``, through a softmax. (The released program divides by
    three times the experts, whatever the number of sets.)

    Args:
        units: What hidden units give, (B, T, units).
        masks: Which units each expert has, (E, units) bool.
        sharpness: At least 0.
    """
    order = units.abs().argsort(dim=2, descending=True)
    held = masks.to(units.dtype).T[order]  # (B, T, units, E), the most active first
    counts = [max(1, round(share * units.shape[2])) for share in SHARES]
    overlap = torch.stack([held[:, :, :count].mean(dim=2) for count in counts]).mean(dim=0)
    centred = overlap - overlap.mean(dim=2, keepdim=True)
    law: Tensor = (sharpness * centred).softmax(dim=2)
    return law


def routing_loss(logits: Tensor, law: Tensor, hard: float = 0.75, smoothing: float = 0.5) -> Tensor:
    """Cross-entropy of a router against an expert law, (B, T).

    Args:
        logits: Of the router, (B, T, E).
        law: (B, T, E).
        hard: Weight of the likeliest expert alone, its label smoothed; the law has the rest.
        smoothing: Share of the label that is spread over all experts.
    """
    log_q, experts = logits.log_softmax(dim=2), logits.shape[2]
    label = nn.functional.one_hot(law.argmax(dim=2), experts).to(law.dtype)
    target = hard * ((1 - smoothing) * label + smoothing / experts) + (1 - hard) * law
    return -(target * log_q).sum(dim=2)
