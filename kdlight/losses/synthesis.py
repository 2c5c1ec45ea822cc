"""What a speech synthesiser is trained on; every mean is over the frames or phones that count."""

from torch import Tensor

from kdlight.core.ranks import joint_mean


def mel_loss(estimate: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of spectrograms over the joint batch (ProDiff, eqs. 9 and 10), ().

    Args:
        estimate: (B, bands, F).
        target: (B, bands, F); no gradient flows into it.
        mask: Frames that count, (B, F), bool.
    """
    error = (estimate - target.detach()).float().square().mean(dim=1)
    return joint_mean(error, mask.to(error))


def masked_error(estimate: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of one number a phone or frame, where ``mask`` (B, N), ()."""
    error = (estimate - target.detach()).float().square()
    return joint_mean(error, mask.to(error))
