"""Adversarial score identity distillation, SiDA (Zhou et al. 2024, arXiv:2410.14919)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from kdlight.core.ranks import joint_average
from kdlight.diffusion.denoisers import Condition, expand
from kdlight.diffusion.generator import Generator
from kdlight.losses.adversarial import discriminator_loss, generator_loss
from kdlight.losses.denoising import weight_of
from kdlight.losses.scores import ScoreIdentity, ScoreObjective, normaliser
from kdlight.networks.images.discriminator import Head
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.sid import SiD

SURE = 10.0
"""Size of the largest logit that moves the student."""


class SiDA(SiD):
    """SiD whose fake score is a discriminator as well, at no further pass.

    The activations of the fake score, at the samples as it denoises them, are judged: by the
    paper's head without weights (:class:`~kdlight.networks.images.discriminator.MeanHead` on the
    last layer of the encoder) or any other. Data are noised by the same noise as the samples. The
    adversarial terms have the weights of the terms they go with, ``1 / mean |x - D_real|`` and
    EDM's. Both are averaged over the joint batch apart from the loss, as the authors' code does it:
    sample by sample, EDM's weight would leave the gradient to the smallest noise.

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the fake score's.
        discriminator: The head; its layers are the fake score's.
        kwargs: Of :class:`~modules.diffusion.sid.SiD`. The weights of the paper's two terms are 100
            and 0.01, of which the ratio counts.
    """

    term_weights: ClassVar[Mapping[str, float]] = {
        "score": 1.0,
        "gan": 1e-4,
        "denoising": 1.0,
        "discriminator": 0.01,
    }

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        discriminator: Head,
        **kwargs: Any,
    ) -> None:
        super().__init__(teacher, optimizer, fake_optimizer, discriminator=discriminator, **kwargs)

    @staticmethod
    def default_objective() -> ScoreObjective:
        """Equation 23 of SiD with alpha 1."""
        return ScoreIdentity(alpha=1.0)

    def student_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        noisy, sigma = self.noised(x, self.noise_law)
        x0_real = self.real(noisy, sigma, condition)
        x0_fake, logits = self.judged(noisy, sigma, condition)
        score = self.objective(x, x0_real, x0_fake, sigma)
        # Beyond the bounds a judge is sure enough, and the student has no gradient of it.
        gan = generator_loss(logits.clamp(-SURE, SURE))
        weight = joint_average(1 / normaliser(x, x0_real).flatten())
        return {"score": score.mean(), "gan": weight * gan.mean()}

    def critic_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        sigma = self.fake_noise_law(self.noise.uniform(len(x)))
        noise = expand(sigma, x).to(x.dtype) * self.noise.normal(x)
        estimate, fake = self.judged(x + noise, sigma, condition)
        _, real = self.judged(self.images(batch) + noise, sigma, self.asked(batch))
        loss = discriminator_loss(real, fake) / 2
        weight = weight_of(sigma, self.fake_weighting, self.sigma_data).to(loss)
        return {
            "denoising": self.denoising(estimate, x, sigma).mean(),
            "discriminator": joint_average(weight) * loss.mean(),
        }
