"""Guidance of a model by a lesser version of itself."""

from torch import Tensor

from kdlight.diffusion.denoisers import Condition, Denoiser, GuidedDenoiser
from kdlight.errors import InputError


class AutoguidedDenoiser(GuidedDenoiser):
    """``D_g + guidance_scale * (D - D_g)`` with another denoiser ``D_g``.

    A smaller or less trained one is autoguidance (Karras et al. 2024, arXiv:2406.02507); an
    unconditional one gives classifier-free guidance to networks that were never trained without
    labels, as EDM2's (arXiv:2312.02696).

    Args:
        denoiser: The model.
        guide: What it is driven away from: with the same classes, or with none.
        guidance_scale: How far; 1 is no guidance.
    """

    def __init__(self, denoiser: Denoiser, guide: Denoiser, guidance_scale: float = 1.0) -> None:
        super().__init__(denoiser, guidance_scale)
        if guide.num_classes not in (0, denoiser.num_classes):
            raise InputError(
                f"guide: expected {denoiser.num_classes} classes or none, "
                f"found {guide.num_classes}."
            )
        self.guide = guide

    @property
    def network_calls(self) -> int:
        calls = self.denoiser.network_calls
        return calls if self.guidance_scale == 1.0 else calls + self.guide.network_calls

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        estimate: Tensor = self.denoiser(x, sigma, condition)
        if self.guidance_scale == 1.0:
            return estimate
        lesser: Tensor = self.guide(x, sigma, condition)
        return lesser.lerp(estimate, self.guidance_scale)
