"""f-distill: distillation by any f-divergence (Xu et al. 2025, arXiv:2502.15681)."""

from functools import partial
from typing import Any

from torch import Tensor

from kdlight.core.ranges import NonNegativeInt
from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.students import unguided
from kdlight.errors import InputError
from kdlight.losses.scores import (
    Divergence,
    divergence_weight,
    over_mean_at_like_noise,
    require_divergence,
)
from kdlight.networks.images.discriminator import Head
from kdlight.training.optim import Optimization
from modules.diffusion.dmd2 import DMD2


class FDistill(DMD2):
    """DMD2 whose gradient is weighted, sample by sample, by ``h(r) = r^2 f''(r)``.

    The ratio r of the densities of data and samples, noised, is what the discriminator's logit is
    the logarithm of. The reverse KL, whose weight is 1, is DMD2; less mode-seeking divergences
    weigh samples down that have little probability under the teacher, whose score is least to be
    trusted there.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the critic's.
        discriminator: The head whose logits are the logarithms of the ratio.
        divergence: Which f.
        ratio_min: Smallest ratio.
        ratio_max: Largest ratio.
        ratio_bins: Each ratio is taken relative to the mean of those at noise levels like its own,
            in so many bins of equal width in sigma: 10 in the authors' release. 0 takes it as it
            is, as the paper's equations do.
        kwargs: Of :class:`~modules.diffusion.dmd2.DMD2`.
    """

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        discriminator: Head,
        divergence: Divergence = "forward_kl",
        ratio_min: float = 0.1,
        ratio_max: float = 20.0,
        ratio_bins: NonNegativeInt = 0,
        **kwargs: Any,
    ) -> None:
        require_divergence(divergence)
        if not 0 < ratio_min < ratio_max:
            raise InputError(
                f"ratio_min: expected 0 < ratio_min < ratio_max, found {ratio_min} and {ratio_max}."
            )
        super().__init__(teacher, optimizer, fake_optimizer, discriminator=discriminator, **kwargs)
        self.divergence = divergence
        self.ratio_min, self.ratio_max, self.ratio_bins = ratio_min, ratio_max, ratio_bins

    def score(self, x: Tensor, condition: Condition) -> Tensor:
        noisy, sigma = self.noised(x, self.noise_law)
        with self.estimating():
            x0_real = self.real(noisy, sigma, condition)
            x0_fake, logits = self.judged(noisy, sigma, condition)
            if self.judge is not self.fake_score:
                x0_fake = self.fake_score(noisy, sigma, condition)
        relative = None
        if self.ratio_bins:
            source = unguided(self.teacher)
            relative = partial(
                over_mean_at_like_noise,
                sigma=sigma,
                low=source.sigma_min,
                high=source.sigma_max,
                bins=self.ratio_bins,
            )
        weight = divergence_weight(
            logits.mean(1), self.divergence, self.ratio_min, self.ratio_max, relative
        )
        return self.objective(x, x0_real, x0_fake, sigma, weight)
