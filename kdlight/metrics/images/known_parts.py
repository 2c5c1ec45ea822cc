"""How many samples show a part that is known by heart, and how many of the parts are seen?"""

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric


class KnownParts(SampleMetric):
    """Share of samples that show one of the known parts clearly, and share of the parts shown.

    Made for pictures that are composed by rule, where every valid part is known to the pixel: a
    blend of two parts, which features forgive, is neither. A sample shows the part that is nearest
    to it, clearly if the root of the mean squared error over the part's mask is below
    ``tolerance``.

    ``compute()`` returns ``crisp`` and ``covered``, both in [0, 1], and ``non_finite``.
    torchmetrics has nothing like it.

    Args:
        variants: What each of P parts may look like, (P, V, C, H, W) in [-1, 1]; a part is as near
            as the nearest of its V variants.
        masks: Where it is compared, (P, H, W) bool; at least one pixel each.
        tolerance: In units of [-1, 1].

    Raises:
        InputError: A mask without a pixel.
    """

    higher_is_better = True
    names = ("crisp", "covered")
    weights: Tensor
    templates: Tensor
    squares: Tensor
    count: Tensor
    shown: Tensor

    def __init__(self, variants: Tensor, masks: Tensor, tolerance: float = 0.2) -> None:
        super().__init__()
        if not bool(masks.flatten(1).any(dim=1).all()):
            raise InputError("masks: expected a pixel or more of every part, found a part without.")
        channels = variants.shape[2]
        self.shape = tuple(variants.shape[2:])
        self.tolerance = tolerance
        weights = (
            masks[:, None].double()
            / masks.sum(dim=(1, 2), dtype=torch.float64)[:, None, None, None]
        ).expand(-1, channels, -1, -1) / channels
        weighted = variants.double() * weights[:, None]
        self.register_buffer("weights", weights.flatten(1), persistent=False)
        self.register_buffer("templates", weighted.flatten(2), persistent=False)
        squares = (weighted * variants.double()).flatten(2).sum(2)
        self.register_buffer("squares", squares, persistent=False)
        self.add_sums(count=(), shown=(len(variants),))

    def update(self, images: Tensor, label: Tensor | None = None) -> None:
        """Add samples, (B, C, H, W) in [-1, 1]; the classes asked for say nothing here.

        Raises:
            InputError: The samples have another shape than the parts.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise InputError(
                f"images: expected the parts' shape {self.shape}, found {tuple(images.shape[1:])}."
            )
        finite = images.flatten(1).isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        rows = images[finite].flatten(1).double()
        parts, variants, _ = self.templates.shape
        # The mean of (x - t)^2 over the mask, as three products: x^2, x t and t^2.
        overlap = (rows @ self.templates.flatten(0, 1).T).reshape(-1, parts, variants)
        errors = (rows.square() @ self.weights.T)[:, :, None] - 2 * overlap + self.squares
        error, nearest = errors.amin(dim=2).min(dim=1)
        crisp = nearest[error < self.tolerance**2]
        self.add_to("count", len(rows))
        self.add_to("shown", torch.bincount(crisp, minlength=parts))

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        return {
            "crisp": self.shown.sum() / self.count,
            "covered": (self.shown > 0).double().mean(),
        }
