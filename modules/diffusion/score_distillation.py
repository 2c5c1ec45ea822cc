"""What the methods have in common that train a generator by the scores of two diffusion models."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from kdlight.core.frozen import held
from kdlight.core.ranges import PositiveInt, Probability
from kdlight.diffusion.denoisers import Condition, Denoiser, GuidedDenoiser, expand
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasNoise, LogNormalNoise, NoiseLaw
from kdlight.diffusion.students import (
    Adapters,
    LikeTeacher,
    adapted,
    copy_of,
    student_of,
    unguided,
)
from kdlight.errors import InputError
from kdlight.losses.adversarial import discriminator_loss, generator_loss
from kdlight.losses.denoising import Weighting, weight_of
from kdlight.losses.scores import DistributionMatching, ScoreObjective
from kdlight.networks.checkpointing import checkpoint_activations
from kdlight.networks.images.discriminator import Head, check_head, judged
from kdlight.training.balance import LossBalance
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.diffusion.few_step import FewStepModule


class ScoreDistillationModule(FewStepModule):
    """Base of those methods: a student that generates, and a critic that follows it.

    The teacher is the score of the data. The *critic* learns what the student makes: its
    ``fake_score`` is a denoiser of the student's samples and, if there is a ``discriminator``,
    a head on the activations of the fake score or of the teacher tells them from data. Both have
    one optimizer. A method's ``step`` says in which order student and critic take their turns;
    neither turn leaves a gradient at the other.

    Every term of the losses has a name and a weight, under which it is logged:

    =============  =======  ==================================================================
    term           part     what
    =============  =======  ==================================================================
    score          student  the objective: what the two scores say about the samples
    gan            student  non-saturating loss against the discriminator
    denoising      critic   denoising score matching on the student's samples
    discriminator  critic   logistic loss of the head on data and samples, noised
    =============  =======  ==================================================================

    Args:
        teacher: The model to distil.
        optimizer: Settings of the student's optimizer.
        fake_optimizer: Settings of the critic's optimizer.
        iterations: Training batches: updates of the critic.
        objective: What draws samples towards the teacher's distribution; null takes the method's
            own.
        student: A generator of another shape, or how it differs from the teacher; null copies the
            teacher's network.
        fake_score: A denoiser of the samples of another shape; null copies the teacher's network.
        dropout: Dropout of the copied networks; null leaves the teacher's.
        guidance_scale: Guidance of the teacher; 1 is none. The fake score is never guided.
        first: Noise level that the student takes its input for (SiD's ``init_sigma``, DMD's
            conditioning level); null for the student's largest.
        intermediate: Noise levels at which a walk of several steps goes on, falling.
        student_every: The student is updated in every so-manieth batch (DMD2's two time scales).
        noise_law: Noise levels at which the scores are compared; null is uniform along the Karras
            grid without its ends.
        fake_noise_law: Noise levels at which the fake score is trained; null is EDM's.
        fake_weighting: Weight of its errors.
        weights: Weight of each term, by name; those not named stay at the method's.
        discriminator: Head that tells data from samples; null for none.
        features: Whose activations the head judges.
        gan_noise_law: Noise levels at which it judges; null is ``noise_law``.
        backward_simulation: Whether a student of several steps is trained on the noisy samples
            that it meets in its own walks (DMD2, section 4.5), or on noised data.
        balance: Measures which term pulls how strongly at the samples; null for none.
        fake_adapters: The fake score is the teacher with trained adapters of these settings and
            shares all other weights with it, in memory too; null trains a network of its own.
        checkpointing: Recompute activations in the backward pass instead of keeping them.
        ema_half_life: Half-life of the average that samples, in updates.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A weight belongs to no term; a number is out of range; the head judges layers
            that do not exist.
    """

    teacher: Generator
    term_weights: ClassVar[Mapping[str, float]] = {
        "score": 1.0,
        "gan": 3e-3,
        "denoising": 1.0,
        "discriminator": 1e-2,
    }

    def __init__(
        self,
        teacher: Generator,
        optimizer: Optimization,
        fake_optimizer: Optimization,
        iterations: int = 10_000,
        objective: ScoreObjective | None = None,
        student: Denoiser | LikeTeacher | None = None,
        fake_score: Denoiser | None = None,
        dropout: Probability | None = 0.0,
        guidance_scale: float = 1.0,
        first: float | None = None,
        intermediate: Sequence[float] = (),
        student_every: PositiveInt = 1,
        noise_law: NoiseLaw | None = None,
        fake_noise_law: NoiseLaw | None = None,
        fake_weighting: Weighting = "edm",
        weights: dict[str, float] | None = None,
        discriminator: Head | None = None,
        features: Literal["fake_score", "teacher"] = "fake_score",
        gan_noise_law: NoiseLaw | None = None,
        backward_simulation: bool = True,
        balance: LossBalance | None = None,
        fake_adapters: Adapters | None = None,
        checkpointing: bool = False,
        ema_half_life: float = 500.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        if features not in ("fake_score", "teacher"):
            raise InputError(f"features: expected fake_score or teacher, found {features!r}.")
        super().__init__(
            student_of(student, teacher, dropout, copy_of),
            {"student": optimizer, "critic": fake_optimizer},
            iterations,
            teacher=teacher,
            first=first,
            intermediate=intermediate,
            ema_half_life=ema_half_life,
            accumulate=accumulate,
            seed=seed,
            max_non_finite=max_non_finite,
        )
        source = unguided(teacher)
        self.guided = GuidedDenoiser(teacher.denoiser, guidance_scale)
        self.add_frozen("guided", self.guided)
        if fake_adapters is not None and fake_score is not None:
            raise InputError("fake_adapters: expected fake_score null, found a denoiser.")
        if fake_adapters is not None:
            fake_score = adapted(source, fake_adapters)
        elif fake_score is None:
            fake_score = copy_of(teacher, dropout)
        self.critic = nn.ModuleDict({"fake_score": fake_score})
        self._features = features
        if discriminator is not None:
            check_head(discriminator, self.judge)
            self.critic["discriminator"] = discriminator
        if checkpointing:
            for part in (self.student, self.fake_score, source):
                checkpoint_activations(part)
        self.objective = objective or self.default_objective()
        self.student_every = student_every
        self.noise_law = noise_law or KarrasNoise(
            max(source.sigma_min, 0.002), source.sigma_max, start=0.02, stop=0.98
        )
        self.fake_noise_law = fake_noise_law or LogNormalNoise()
        self.gan_noise_law = gan_noise_law or self.noise_law
        self.fake_weighting = fake_weighting
        self.sigma_data = float(getattr(source, "sigma_data", 0.5))
        self.weights = self._weights(weights or {})
        self.backward_simulation = backward_simulation
        self.balance = balance
        self._levels = self._grid.sigmas(self._grid.longest)[:-1].tolist()
        self._last: dict[str, Tensor | float] = {}

    @staticmethod
    def default_objective() -> ScoreObjective:
        """The method's own objective."""
        return DistributionMatching()

    def _weights(self, given: Mapping[str, float]) -> dict[str, float]:
        for name, weight in given.items():
            if name not in self.term_weights:
                known = ", ".join(self.term_weights)
                raise InputError(f"weights: expected some of {known}, found {name}.")
            if not weight >= 0:
                raise InputError(f"weights.{name}: expected at least 0, found {weight}.")
        return {**self.term_weights, **given}

    # Parts ----------------------------------------------------------------------------------

    @property
    def fake_score(self) -> Denoiser:
        """The denoiser of the student's samples."""
        found = self.critic["fake_score"]
        assert isinstance(found, Denoiser)
        return found

    @property
    def discriminator(self) -> Head | None:
        """The head that tells data from samples, if there is one."""
        found = getattr(self.critic, "discriminator", None)
        assert found is None or isinstance(found, Head)
        return found

    @property
    def judge(self) -> Denoiser:
        """The denoiser whose activations the discriminator sees."""
        return self.fake_score if self._features == "fake_score" else unguided(self.teacher)

    def judged(self, x: Tensor, sigma: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """What the judged denoiser makes of noisy samples, (B, ...), and logits (B, P)."""
        assert self.discriminator is not None
        return judged(self.discriminator, self.judge, x, sigma, condition)

    def real(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The denoiser that the student is drawn to: the teacher, guided."""
        estimate: Tensor = self.guided(x, sigma, condition)
        return estimate

    # Turns ----------------------------------------------------------------------------------

    def students_turn(self) -> bool:
        """Whether the student is updated in this batch, or in the window it accumulates in."""
        position, _ = self.stage()
        return (position // self._accumulate + 1) % self.student_every == 0

    def update_student(self, batch: Batch, noise: Tensor, condition: Condition) -> Tensor:
        """Generate, and one update of the student. Returns the samples, without gradient."""
        # Around the backward pass too: recomputed activations must meet the same weights.
        with held(self.critic):
            x = self.generate(noise, condition, batch)
            terms = self.student_terms(batch, x, condition)
            if self.balance is not None and self.ema.updates % self.balance.every == 0:
                self._measure_balance(self.balance, x, terms)
            self.optimize("student", self._total(terms))
        return x.detach()

    def update_critic(self, batch: Batch, x: Tensor, condition: Condition) -> None:
        """One update of the fake score, and of the discriminator if there is one.

        Args:
            batch: Where data come from for the discriminator.
            x: Generated samples, (B, ...).
            condition: What they were generated for.
        """
        self.optimize("critic", self._total(self.critic_terms(batch, x.detach(), condition)))

    def report_terms(self) -> None:
        """Log the last value of each term."""
        self.report(self._last)

    def _total(self, terms: Mapping[str, Tensor]) -> Tensor:
        self._last.update({name: term.detach() for name, term in terms.items()})
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def _measure_balance(
        self, balance: LossBalance, x: Tensor, terms: Mapping[str, Tensor]
    ) -> None:
        weighted = {name: self.weights[name] * term for name, term in terms.items()}
        norms = balance.gradients(x, weighted)
        self._last.update(balance.logged(norms))
        warning = balance.warning(norms)
        if warning is not None:
            rank_zero_warn(warning)

    # Samples --------------------------------------------------------------------------------

    def latents(self, batch: Batch) -> tuple[Tensor, Condition]:
        """Unit noise (B, ...), the batch's own if it brings some, and what is asked for."""
        return batch["noise"] if "noise" in batch else self.fresh(batch), self.asked(batch)

    def fresh(self, batch: Batch) -> Tensor:
        """Unit noise (B, ...) drawn anew, whatever the batch brings."""
        return self.noise.normal(batch["noise"] if "noise" in batch else batch["image"])

    def asked(self, batch: Batch) -> Condition:
        """What the samples are conditioned on."""
        return self.condition_of(batch)

    def generate(self, noise: Tensor, condition: Condition, batch: Batch) -> Tensor:
        """The student's samples, (B, ...), with the gradient of its last step alone.

        A student of several steps stops after one of them, drawn for the joint batch: the walk up
        to there is its own (backward simulation), or noised data stand in for it.
        """
        x = self.student.prior(noise, torch.tensor(self._levels[0], dtype=torch.float64))
        last = self.noise.common(len(self._levels)) if len(self._levels) > 1 else 0
        if last > 0 and not self.backward_simulation:
            x = self._noised(self.images(batch), self._levels[last])
        elif last > 0:
            with torch.no_grad():
                for sigma, sigma_next in itertools.pairwise(self._levels[: last + 1]):
                    x = self._noised(self._denoise(x, sigma, condition), sigma_next)
        return self._denoise(x, self._levels[last], condition)

    def _denoise(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        level = torch.full((len(x),), sigma, dtype=torch.float64, device=x.device)
        x0: Tensor = self.student(x, level, condition)
        return x0

    def _noised(self, x0: Tensor, sigma: float) -> Tensor:
        return x0 + sigma * self.noise.normal(x0)

    def noised(self, x: Tensor, law: NoiseLaw) -> tuple[Tensor, Tensor]:
        """``x + sigma eps`` at levels drawn from ``law``, and the levels (B,)."""
        sigma = law(self.noise.uniform(len(x)))
        return x + expand(sigma, x).to(x.dtype) * self.noise.normal(x), sigma

    @staticmethod
    def images(batch: Batch) -> Tensor:
        """Data (B, ...).

        Raises:
            InputError: The data module provides none.
        """
        if "image" not in batch:
            raise InputError(
                "data: expected images, for the discriminator or for noised data, found a data "
                "module that provides noise alone."
            )
        image: Tensor = batch["image"]
        return image

    # Terms ----------------------------------------------------------------------------------

    def student_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        """The terms of the student's loss at its samples ``x``, scalars before their weights."""
        terms = {"score": self.score(x, condition).mean()}
        if self.discriminator is not None:
            noisy, sigma = self.noised(x, self.gan_noise_law)
            _, logits = self.judged(noisy, sigma, condition)
            terms["gan"] = generator_loss(logits).mean()
        return terms

    def score(self, x: Tensor, condition: Condition) -> Tensor:
        """The objective at the samples, (B,)."""
        noisy, sigma = self.noised(x, self.noise_law)
        with self.estimating():
            x0_real = self.real(noisy, sigma, condition)
            x0_fake = self.fake_score(noisy, sigma, condition)
        return self.objective(x, x0_real, x0_fake, sigma)

    @contextlib.contextmanager
    def estimating(self) -> Iterator[None]:
        """A graph through the denoisers only if the objective wants one."""
        with torch.set_grad_enabled(self.objective.through_denoisers and torch.is_grad_enabled()):
            yield

    def critic_terms(self, batch: Batch, x: Tensor, condition: Condition) -> dict[str, Tensor]:
        """The terms of the critic's loss at the student's samples ``x``, scalars."""
        noisy, sigma = self.noised(x, self.fake_noise_law)
        estimate = self.fake_score(noisy, sigma, condition)
        terms = {"denoising": self.denoising(estimate, x, sigma).mean()}
        if self.discriminator is not None:
            image = self.images(batch)
            real, sigma = self.noised(image, self.gan_noise_law)
            _, real_logits = self.judged(real, sigma, self.asked(batch))
            fake, sigma = self.noised(x, self.gan_noise_law)
            _, fake_logits = self.judged(fake, sigma, condition)
            terms["discriminator"] = discriminator_loss(real_logits, fake_logits).mean()
        return terms

    def denoising(self, estimate: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``w(sigma) mean_i (D_i - x_i)^2`` of each sample, (B,)."""
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            error = (estimate.to(dtype) - x.to(dtype)).flatten(1).square().mean(1)
            weight = weight_of(sigma, self.fake_weighting, self.sigma_data)
            return weight.to(error) * error
