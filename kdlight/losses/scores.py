"""What draws generated samples towards a teacher's distribution: objectives of score distillation.

Generated samples x are noised to ``x_t = x + sigma eps`` and shown to two denoisers: ``D_real``,
the teacher's, and ``D_fake``, that of the generator's own distribution. Their scores differ by
``s_fake - s_real = (D_fake - D_real) / sigma^2``. Where both are Gaussian, data ``N(m, v)`` and
samples ``N(n, w)``,

``D_fake - D_real = (w x_t + sigma^2 n) / (w + sigma^2) - (v x_t + sigma^2 m) / (v + sigma^2)``.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kdlight.core.ranks import joint_sum
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import expand
from kdlight.errors import InputError


def normaliser(x: Tensor, real: Tensor) -> Tensor:
    """``mean_i |x_i - D_real_i|`` of each sample, (B, 1, ..., 1), without gradient.

    How far off the teacher thinks the sample is: dividing by it makes gradients at all noise levels
    of one size, and the direction independent of the scale of the data (DMD, arXiv:2311.18828,
    eq. 8; SiD, arXiv:2404.04057, eq. 24). Not below 1e-5.

    Args:
        x: Generated samples, (B, ...).
        real: ``D_real`` of them noised, (B, ...).
    """
    distance = (x - real).detach().flatten(1).abs().mean(1).clamp(min=1e-5)
    return distance.reshape(-1, *[1] * (x.ndim - 1))


def with_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """``|x - sg(x - g)|^2 / 2``, averaged over a sample's numbers: its gradient is ``g / D``.

    Args:
        x: Samples, (B, ...) of D numbers each.
        gradient: g, (B, ...).

    Returns:
        (B,).
    """
    return 0.5 * (x - (x - gradient).detach()).flatten(1).square().mean(1)


class ScoreObjective(Recorded):
    """Base of the objectives: typed parts of the methods of score distillation.

    Attributes:
        through_denoisers: Whether the gradient flows through the denoisers to the samples; without,
            the estimates may be made without a graph.
    """

    through_denoisers = False

    def __call__(
        self,
        x: Tensor,
        x0_real: Tensor,
        x0_fake: Tensor,
        sigma: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Loss of each sample.

        Args:
            x: Generated samples, with gradient, (B, ...).
            x0_real: What the teacher makes of them noised, ``D_real(x + sigma eps, sigma)``.
            x0_fake: What the denoiser of the generated samples makes of the same.
            sigma: Noise levels, (B,).
            weight: Factor of each sample, (B,), without gradient; None is 1.

        Returns:
            (B,), in float32 at least.
        """
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            loss = self.measure(x.to(dtype), x0_real.to(dtype), x0_fake.to(dtype), sigma)
        return loss if weight is None else weight.to(loss) * loss

    def measure(self, x: Tensor, x0_real: Tensor, x0_fake: Tensor, sigma: Tensor) -> Tensor:
        """The formula."""
        raise NotImplementedError


class IntegralKL(ScoreObjective):
    """Gradient of the KL divergence integrated over noise levels (Diff-Instruct, 2305.18455).

    ``w(sigma) (s_fake - s_real)``; with the authors' code ``w = sigma^2``, so that what is left is
    ``D_fake - D_real``.

    Args:
        power: ``w = sigma^power``.
    """

    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def measure(self, x: Tensor, x0_real: Tensor, x0_fake: Tensor, sigma: Tensor) -> Tensor:
        scale = (expand(sigma, x) ** (self.power - 2)).to(x.dtype)
        return with_gradient(x, scale * (x0_fake - x0_real))


class DistributionMatching(ScoreObjective):
    """The normalised gradient of DMD (arXiv:2311.18828, eq. 7 and 8).

    ``(D_fake - D_real) / mean |x - D_real|``. Scaling data, samples and noise levels alike leaves
    it as it is.
    """

    def measure(self, x: Tensor, x0_real: Tensor, x0_fake: Tensor, sigma: Tensor) -> Tensor:
        return with_gradient(x, (x0_fake - x0_real) / normaliser(x, x0_real))


class ScoreIdentity(ScoreObjective):
    """The loss of SiD (Zhou et al. 2024, arXiv:2404.04057, eq. 23), through both denoisers.

    ``(D_real - D_fake) . ((D_real - x) - alpha (D_real - D_fake)) / mean |x - D_real|``, averaged
    over a sample's numbers where the authors sum.

    The first part, ``(D_real - D_fake) . (D_real - x)``, has the expectation of the Fisher
    divergence ``|D_real - D_fake|^2`` by the identity of the title; ``alpha`` takes a multiple of
    that square away, because what both leave out, the change of ``D_fake`` with the generator,
    biases the one this way and the other that way.

    Args:
        alpha: 1.2 for most of the paper's results, 1 for SiDA's.
        through_denoisers: Whether the gradient flows through the denoisers, as in the paper. False
            leaves ``-(D_real - D_fake)`` alone, a gradient like DMD's.
    """

    def __init__(self, alpha: float = 1.2, through_denoisers: bool = True) -> None:
        self.alpha = alpha
        self.through_denoisers = through_denoisers

    def measure(self, x: Tensor, x0_real: Tensor, x0_fake: Tensor, sigma: Tensor) -> Tensor:
        difference = x0_real - x0_fake
        error = (x0_real - x) - self.alpha * difference
        return (difference * error / normaliser(x, x0_real)).flatten(1).mean(1)


Divergence = Literal[
    "reverse_kl",
    "forward_kl",
    "jensen_shannon",
    "squared_hellinger",
    "softened_reverse_kl",
    "jeffreys",
    "neyman",
]

F_DIVERGENCES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "reverse_kl": (lambda r: -r.log(), torch.ones_like),
    "forward_kl": (lambda r: r * r.log(), lambda r: r),
    "jensen_shannon": (
        lambda r: r * r.log() - (r + 1) * ((r + 1) / 2).log(),
        lambda r: r / (1 + r),
    ),
    "squared_hellinger": (lambda r: 1 - r.sqrt(), lambda r: r.sqrt() / 4),
    "softened_reverse_kl": (
        lambda r: (r + 1) * ((r + 1) / (2 * r)).log(),
        lambda r: 1 / (1 + r),
    ),
    "jeffreys": (lambda r: (r - 1) * r.log(), lambda r: 1 + r),
    "neyman": (lambda r: (1 - r) ** 2 / (2 * r), lambda r: 1 / r),
}
"""``f`` and ``h(r) = r^2 f''(r)`` of each divergence ``E_q f(p / q)``, p being the data's."""


def over_mean_at_like_noise(
    ratio: Tensor, sigma: Tensor, low: float, high: float, bins: int
) -> Tensor:
    """Each ratio over the mean of the joint batch's ratios at noise levels like its own, (B,).

    Levels are alike in one of ``bins`` parts of equal width of [low, high]. A discriminator's
    confidence differs more between noise levels than between samples at one of them, and it is
    the samples that are to be weighed (the authors' release, with 10 bins).

    Args:
        ratio: Positive, (B,).
        sigma: Noise levels, (B,).
        low: Smallest level.
        high: Largest.
        bins: Number of parts.
    """
    part = ((sigma.double() - low) * bins / (high - low)).floor().long().clamp(0, bins - 1)
    inside = torch.nn.functional.one_hot(part, bins).to(ratio)
    total, count = joint_sum(torch.stack([ratio @ inside, inside.sum(0)]))
    relative: Tensor = ratio * (count / total)[part]
    return relative


def divergence_weight(
    log_ratio: Tensor,
    divergence: Divergence,
    low: float = 0.1,
    high: float = 20.0,
    relative: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Weight of each sample's gradient in f-distill (arXiv:2502.15681, eq. 6 and section 3.3).

    ``h(r) / mean h`` for the density ratio r of data to samples, which a discriminator's logit is
    the logarithm of. The ratio is cut off, and the mean is taken over the batches of all ranks.
    The reverse KL weighs all alike, which is DMD; the forward KL weighs what the generator
    has too little of.

    Args:
        log_ratio: ``log p_data(x_t) / p_fake(x_t)``, (B,).
        divergence: Row of :data:`F_DIVERGENCES`.
        low: Smallest ratio.
        high: Largest.
        relative: Makes the ratios, cut off, relative to others, such as
            :func:`over_mean_at_like_noise`; None takes them as they are.

    Returns:
        (B,), without gradient.
    """
    _, h = F_DIVERGENCES[divergence]
    # In float64, clamped first: exp of a large logit is an infinity.
    ratio = log_ratio.detach().double().clamp(-20, 20).exp().clamp(low, high)
    weight = h(ratio if relative is None else relative(ratio))
    total = joint_sum(torch.stack([weight.sum(), weight.new_tensor(float(len(weight)))]))
    return weight * (total[1] / total[0])


def require_divergence(divergence: str) -> None:
    """Refuse a divergence that is not known.

    Raises:
        InputError: It is not.
    """
    if divergence not in F_DIVERGENCES:
        raise InputError(
            f"divergence: expected one of {', '.join(F_DIVERGENCES)}, found {divergence!r}."
        )
