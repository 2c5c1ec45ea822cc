"""Augmentation that tells the network what was done, so that it does not leak into samples."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, Probability
from kdlight.errors import InputError


class Augmentation:
    """Base of such augmentations.

    Attributes:
        dim: Width of the vector that the network is told.
        draws: How many normal numbers one image takes.
    """

    dim: int
    draws: int

    def __call__(self, image: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: (B, C, H, W) in [-1, 1].
            normal: Standard normal numbers, (B, draws).
            uniform: Uniform numbers in [0, 1), (B,).

        Returns:
            The images and the condition vectors (B, dim).
        """
        raise NotImplementedError


class AffineAugmentation(Augmentation):
    """Random shift, rotation, scale and shear, with its parameters as a condition.

    The non-leaky augmentation of EDM (Karras et al. 2022, arXiv:2206.00364, appendix F.1): the
    network is conditioned on the parameters in units of their spread, and sampled at zero.
    Images are filled with -1 from outside and resampled bicubically.

    Args:
        probability: Share of images that are augmented; the rest get a vector of zeros.
        shift: Standard deviation of the shift, as a share of half the image.
        rotation: Standard deviation of the rotation, radians.
        scale: Standard deviation of the relative scale.
        shear: Standard deviation of the shear.
        untold: Spread, as a share of the above, of a small jitter that every image gets and the
            network is not told of. It leaks into the samples by that much; on a data set of a
            thousand images it is what keeps a network from learning them by heart.
    """

    dim = 5
    draws = 10

    def __init__(
        self,
        probability: Probability = 0.8,
        shift: NonNegativeFloat = 0.1,
        rotation: NonNegativeFloat = 0.15,
        scale: NonNegativeFloat = 0.08,
        shear: NonNegativeFloat = 0.1,
        untold: NonNegativeFloat = 0.0,
    ) -> None:
        if not 0 <= probability <= 1:
            raise InputError(f"probability: expected a number in [0, 1], found {probability}.")
        self.probability = probability
        self.untold = untold
        self.spread = torch.tensor([shift, shift, rotation, scale, shear])

    def __call__(self, image: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: (B, C, H, W) in [-1, 1].
            normal: Standard normal numbers, (B, 10): the told and the untold parameters.
            uniform: Uniform numbers in [0, 1), (B,), that decide who is augmented.

        Returns:
            The images and the condition vectors (B, 5).
        """
        chosen = (uniform < self.probability).to(image.dtype)[:, None]
        told, untold = normal.to(image.dtype).chunk(2, dim=1)
        vector = told * chosen
        parameters = (vector + self.untold * untold) * self.spread.to(image)
        shift_x, shift_y, angle, scale, shear = parameters.T
        cosine, sine = torch.cos(angle) * (1 + scale), torch.sin(angle) * (1 + scale)
        top = torch.stack([cosine, shear - sine, shift_x], dim=1)
        bottom = torch.stack([sine, cosine, shift_y], dim=1)
        grid = nn.functional.affine_grid(
            torch.stack([top, bottom], dim=1), list(image.shape), align_corners=False
        )
        warped = nn.functional.grid_sample(image + 1, grid, mode="bicubic", align_corners=False) - 1
        if self.untold == 0:
            # An image that was not chosen stays as it is, bit for bit.
            warped = torch.where(chosen[..., None, None] > 0, warped, image)
        return warped, vector
