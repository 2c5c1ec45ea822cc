"""The non-saturating loss of adversarial training (Goodfellow et al. 2014, arXiv:1406.2661)."""

from torch import Tensor, nn


def generator_loss(logits: Tensor) -> Tensor:
    """``softplus(-logit)`` of generated samples, averaged over places.

    Args:
        logits: (B, P), above 0 for real.

    Returns:
        (B,).
    """
    return nn.functional.softplus(-logits).mean(1)


def discriminator_loss(real: Tensor, generated: Tensor) -> Tensor:
    """``softplus(-real) + softplus(generated)``, averaged over places.

    At its minimum the logit is ``log p_data / p_generated``.

    Args:
        real: Logits of real samples, (B, P).
        generated: Logits of generated samples, (B, P).

    Returns:
        (B,).
    """
    return nn.functional.softplus(-real).mean(1) + nn.functional.softplus(generated).mean(1)
