"""Structural similarity of spectrograms, where some frames are padding."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from kdlight.core.ranks import joint_mean

WINDOW, SPREAD = 11, 1.5
"""Taps and standard deviation of the Gaussian window (Wang et al. 2004)."""


def structural_similarity(
    estimate: Tensor, target: Tensor, mask: Tensor, data_range: float
) -> Tensor:
    """SSIM at every place (Wang et al. 2004), from the frames that count alone.

    Local means are weighted by the window's part inside the mask, so padding has no share in
    them, nor have the borders. Inside, it is the usual SSIM.

    Args:
        estimate: Spectrogram (B, bands, F).
        target: The same of the truth.
        mask: Frames that count, (B, F), bool.
        data_range: Difference of the largest and the smallest value that the data take.

    Returns:
        (B, bands, F), from -1 to 1; no use where the mask is off.
    """
    inside = mask[:, None].expand_as(estimate).to(estimate.dtype)
    mass = _blurred(inside).clamp(min=1e-6)

    def local(values: Tensor) -> Tensor:
        return _blurred(values * inside) / mass

    means = local(estimate), local(target)
    products = means[0] * means[1]
    squares = means[0].square() + means[1].square()
    covariance = local(estimate * target) - products
    variances = local(estimate.square() + target.square()) - squares
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (2 * products + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def ssim_loss(estimate: Tensor, target: Tensor, mask: Tensor, data_range: float) -> Tensor:
    """``1 - SSIM``, its mean over the frames of all ranks that count (ProDiff, eq. 11), ()."""
    with torch.autocast(estimate.device.type, enabled=False):
        similar = structural_similarity(
            estimate.float(), target.detach().float(), mask, data_range
        ).mean(dim=1)
    return joint_mean(1 - similar, mask.to(similar))


def _blurred(values: Tensor) -> Tensor:
    """Values (B, bands, F) under the window in both directions, zeros behind the borders."""
    place = torch.arange(WINDOW, device=values.device, dtype=values.dtype) - WINDOW // 2
    window = (-0.5 * (place / SPREAD).square()).exp()
    window = (window / window.sum()).reshape(1, 1, -1)
    for _ in range(2):  # along one axis, then the other
        shape = values.shape
        rows = conv1d(values.reshape(-1, 1, shape[-1]), window, padding=WINDOW // 2)
        values = rows.reshape(shape).transpose(1, 2)
    return values
