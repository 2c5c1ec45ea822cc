"""The augmentation that EDM trains its networks with, which tells them what was done."""

import math

import torch
from torch import Tensor, nn

from kdlight.core.ranges import Probability
from kdlight.diffusion.augmentation import Augmentation
from kdlight.errors import InputError

# The low-pass filter of Daubechies' sym6 wavelet, orthonormal: doubling with it and halving with
# its mirror image gives back what went in.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
SIDE = len(SYM6) // 2 - 1
"""Pixels that the filter reaches beyond the border, at twice the resolution."""


class EDMAugmentation(Augmentation):
    """Flips, scaling, rotation, stretching and shift (Karras et al. 2022, arXiv:2206.00364, F.2).

    The geometric part of the augmentation of StyleGAN2-ADA (Karras et al. 2020,
    arXiv:2006.06676, appendix B): images are mirrored beyond their borders, doubled, sampled
    bilinearly, and halved. The nine numbers that the network is told:

    =====  ===============================================  ==========================
    0      flip left to right, half of all images           0 or 1
    1      flip upside down                                 0 or 1
    2      scale ``2^(0.2 w)``, w normal                    w
    3, 4   rotation by w, uniform                           ``cos w - 1``, ``sin w``
    5, 6   scales ``2^(0.2 w)`` and its inverse along       ``w cos r``, ``w sin r``
           axes turned by r, half of the time 0
    7, 8   shift by ``0.125 w`` of width and height         w of width, w of height
    =====  ===============================================  ==========================

    An image that no part but a flip falls to is left as it is, bit for bit.

    Args:
        probability: Of each part but the first: 0.12 for CIFAR-10, 0.15 for FFHQ and AFHQv2.
    """

    dim = 9
    draws = 13

    def __init__(self, probability: Probability = 0.12) -> None:
        if not 0 <= probability <= 1:
            raise InputError(f"probability: expected a number in [0, 1], found {probability}.")
        self.probability = probability

    def __call__(self, image: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: (B, C, H, W) in [-1, 1].
            normal: Standard normal numbers, (B, 13).
            uniform: Uniform numbers in [0, 1), (B,): who is flipped left to right.

        Returns:
            The images and the condition vectors (B, 9).
        """
        parameters = self.parameters(normal, uniform)
        return transform(image, parameters.to(image.dtype)), labels_of(parameters).to(image.dtype)

    def parameters(self, normal: Tensor, uniform: Tensor) -> Tensor:
        """What :func:`transform` does, (B, 8), drawn from the numbers of a call."""
        # Uniform numbers in (0, 1) out of normal ones.
        share: Tensor = torch.special.ndtr(normal.double())
        kept = (share[:, :5] < self.probability).to(normal.dtype)
        coin, turned = (share[:, 5:7] < 0.5).to(normal.dtype).unbind(1)
        angle, axis = (math.pi * (2 * share[:, 7:9] - 1)).to(normal.dtype).unbind(1)
        scale, stretch, right, down = normal[:, 9:].unbind(1)
        flip = (uniform < 0.5) & (self.probability > 0)
        return torch.stack(
            [
                flip.to(normal.dtype),
                coin * kept[:, 0],
                scale * kept[:, 1],
                angle * kept[:, 2],
                stretch * kept[:, 3],
                axis * turned * kept[:, 3],
                right * kept[:, 4],
                down * kept[:, 4],
            ],
            dim=1,
        )


def labels_of(parameters: Tensor) -> Tensor:
    """What a network is told of the parameters of :func:`transform`, (B, 9)."""
    across, over, scale, angle, stretch, axis, right, down = parameters.unbind(1)
    turned = [stretch * axis.cos(), stretch * axis.sin()]
    return torch.stack(
        [across, over, scale, angle.cos() - 1, angle.sin(), *turned, right, down], dim=1
    )


def transform(image: Tensor, parameters: Tensor) -> Tensor:
    """Flip and warp a batch.

    Args:
        image: (B, C, H, W).
        parameters: (B, 8): both flips, 0 or 1; logarithm of the scale, in units of ``0.2 log 2``;
            angle; logarithm of the stretch, in the same units, and angle of its axes; shifts in
            units of an eighth of width and height. Zeros change nothing.

    Returns:
        The images, (B, C, H, W).
    """
    for place, axis in ((0, 3), (1, 2)):
        flipped = parameters[:, place, None, None, None] > 0
        image = torch.where(flipped, image.flip(axis), image)
    warped = parameters[:, 2:].ne(0).any(dim=1).nonzero().flatten()
    if len(warped) == 0:
        return image
    # In lower precision the filters would not give back what went in.
    with torch.autocast(image.device.type, enabled=False):
        inverse = _inverse(parameters[warped, 2:], image.shape[3], image.shape[2])
        return image.index_copy(0, warped, _warp(image[warped], inverse))


def _inverse(parameters: Tensor, width: int, height: int) -> Tensor:
    """From places of the new image to places of the old, in pixels from the centre, (B, 3, 3)."""
    scale, angle, stretch, axis, right, down = parameters.unbind(1)
    shrink, squeeze = torch.exp2(-0.2 * scale), torch.exp2(-0.2 * stretch)
    matrix = _diagonal(shrink, shrink) @ _rotation(angle)
    matrix = matrix @ _rotation(-axis) @ _diagonal(squeeze, 1 / squeeze) @ _rotation(axis)
    shift = torch.eye(3).to(parameters).repeat(len(parameters), 1, 1)
    shift[:, 0, 2], shift[:, 1, 2] = -0.125 * width * right, -0.125 * height * down
    return matrix @ shift


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    cosine, sine, zero, one = angle.cos(), angle.sin(), 0 * angle, 0 * angle + 1
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, one]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _warp(image: Tensor, inverse: Tensor) -> Tensor:
    height, width = image.shape[2:]
    mirrored = nn.functional.pad(image, [width - 1, width - 1, height - 1, height - 1], "reflect")
    doubled = _double(mirrored)
    # Places of the new image at twice the resolution, as far as halving needs them, and where they
    # come from, in pixels from the centre.
    down = torch.arange(-SIDE, 2 * height + SIDE).to(inverse) / 2 - (height - 1) / 2
    right = torch.arange(-SIDE, 2 * width + SIDE).to(inverse) / 2 - (width - 1) / 2
    rows, columns = torch.meshgrid(down, right, indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    source = torch.einsum("bij,hwj->bhwi", inverse[:, :2], places)
    # In units of half the mirrored image. The filter is heaviest at its sixth tap, half a tap
    # before its middle, so that every second sample of the doubled image is where a pixel was.
    extent = source.new_tensor([mirrored.shape[3] / 2, mirrored.shape[2] / 2])
    sampled = nn.functional.grid_sample(doubled, (source - 0.25) / extent, align_corners=False)
    return _halve(sampled)


def _taps(image: Tensor) -> Tensor:
    return torch.tensor(SYM6).to(image).expand(image.shape[1], 1, -1)


def _double(image: Tensor) -> Tensor:
    """Twice the height and width."""
    taps, channels = _taps(image), image.shape[1]
    for kernel, stride, crop in (
        (taps[:, :, None], (1, 2), (0, SIDE)),
        (taps[..., None], (2, 1), (SIDE, 0)),
    ):
        image = nn.functional.conv_transpose2d(image, kernel, None, stride, crop, groups=channels)
    return image


def _halve(image: Tensor) -> Tensor:
    """Half the height and width without a margin of ``SIDE``."""
    taps, channels = _taps(image), image.shape[1]
    for kernel, stride in ((taps[:, :, None], (1, 2)), (taps[..., None], (2, 1))):
        image = nn.functional.conv2d(image, kernel, stride=stride, groups=channels)
    return image
