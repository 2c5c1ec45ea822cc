"""Seed-TTS: timbre apart by the model's own speech pairs (arXiv:2406.02430, section 4.1)."""

import copy
import itertools

import torch
from torch import Tensor, nn

from kdlight.codec.frames import frame_mask
from kdlight.core.ranges import PositiveInt, Probability
from kdlight.core.ranks import joint_mean, joint_other
from kdlight.diffusion.denoisers import expand
from kdlight.errors import InputError
from kdlight.losses.denoising import weight_of
from kdlight.networks.speech.timbre_converter import TimbreConverter
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import speech_of
from kdlight.training.optim import Optimization

LEARNT = 64
"""Recordings that bands and tokens are measured on."""


class TimbreFactorisation(DistillationModule):
    """Tokens carry timbre, so a decoder told tokens and a voice reads the voice from the tokens.

    Stage 1 learns to draw recordings from their own tokens behind a prompt of their own. In stage 2
    the model of stage 1, held, first says every recording in the voice of another of the batch: a
    twin of the same content. The student is told the twin's tokens, and the voice by a prompt of
    the original alone, and is asked for the original. What it is then told of the source's tokens
    it knows to be no voice: that is conversion.

    Sizes, losses and weights are not published; prompt lengths and the loss on the velocity are
    those of Seed-VC (arXiv:2411.09943), whose twins come from an outside program.

    Args:
        student: What is trained.
        optimizer: Settings of its optimizer; schedules span one stage.
        stage_iterations: Training batches of the first stage and of the second.
        plain: Share of the recordings of stage 2 that keep their own tokens, or tokens without a
            twin would be unknown; with 1 there are no twins, the control.
        unprompted: Share of recordings without a prompt.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: There are not one or two stages.
    """

    def __init__(
        self,
        student: TimbreConverter,
        optimizer: Optimization,
        stage_iterations: list[PositiveInt],
        plain: Probability = 0.25,
        unprompted: Probability = 0.1,
        accumulate: PositiveInt = 1,
        seed: int = 0,
        max_non_finite: PositiveInt = 10,
    ) -> None:
        if not 1 <= len(stage_iterations) <= 2:
            raise InputError(f"stage_iterations: expected one or two, found {stage_iterations}.")
        total = sum(stage_iterations)
        super().__init__(total, {"student": optimizer}, accumulate, seed, max_non_finite)
        self.lengths = list(stage_iterations)
        self._ends = list(itertools.accumulate(stage_iterations))
        self.plain, self.unprompted = plain, unprompted
        self.student = student
        # Filled at the end of stage 1.
        self.before = copy.deepcopy(student).requires_grad_(False).eval()

    @property
    def taught(self) -> bool:
        """Whether this is the second stage."""
        return self.iteration >= self._ends[0]

    def stage(self) -> tuple[int, int]:
        index = min(int(self.taught), len(self.lengths) - 1)
        return self.iteration - sum(self.lengths[:index]), self.lengths[index]

    def describe_stage(self) -> str:
        return "on its own twins" if self.taught else "on its own tokens"

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        found: dict[str, tuple[str, nn.Module]] = {"student": ("student", self.student)}
        return found | ({"before": ("before", self.before)} if self.taught else {})

    def on_fit_start(self) -> None:
        """Find bands and tokens once in a run's life.

        Raises:
            InputError: The data are no speech, or of another rate.
        """
        data = speech_of(self.trainer, type(self).__name__)
        made = self.student.log_mel.sample_rate
        if data.sample_rate != made:
            raise InputError(f"data: expected {made} Hz of the student, found {data.sample_rate}.")
        if not self.student.centroids.any():
            said = data.training_utterances()
            self.student.learn(each.read() for each in said[:: max(1, len(said) // LEARNT)])

    # The algorithm ----------------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        x0 = self.student.log_mel(batch["audio"])
        mask = frame_mask(batch["lengths"], self.student.log_mel.hop_length, x0.shape[2])
        prompted = self.prompts(mask)
        heard = self.twins(x0, mask) if self.taught and self.plain < 1 else x0
        tokens = self.student.tokens(torch.where(prompted[:, None], x0, heard))
        condition = {"frames": tokens, "prompt": x0, "prompted": prompted, "mask": mask}
        t = self.noise.uniform(len(x0)).clamp(1e-3, 1 - 1e-3)
        sigma = t / (1 - t)
        x = x0 + expand(sigma, x0).to(x0.dtype) * self.noise.normal(x0)
        estimate = self.student.denoiser(x, sigma, condition)
        error = (estimate - x0).float().square().mean(dim=1)
        error = error * weight_of(sigma, "flow")[:, None].to(error)
        loss = joint_mean(error, (mask & ~prompted).to(error))
        self.optimize("student", loss)
        self.report({"velocity": loss.detach()})

    def prompts(self, mask: Tensor) -> Tensor:
        """Which frames are a prompt, (B, F) bool: the first of a recording, one less than all."""
        frames = mask.sum(dim=1)
        count = (self.noise.uniform(len(mask)) * frames).floor()
        count = count * (self.noise.uniform(len(mask)) >= self.unprompted)
        place = torch.arange(mask.shape[1], device=mask.device)
        return mask & (place < count[:, None])

    @torch.no_grad()
    def twins(self, x0: Tensor, mask: Tensor) -> Tensor:
        """Recordings (B, bands, F) as the model of stage 1 says them in another voice."""
        everyone = len(x0) * self.trainer.world_size
        step = 1 + self.noise.integers(len(x0), max(1, everyone - 1))
        half = max(1, x0.shape[2] // 2)
        prompt = joint_other(x0, step, self.global_rank)[:, :, :half]
        heard = joint_other(mask.to(x0), step, self.global_rank)[:, :half] > 0
        noise = self.noise.normal(torch.cat([prompt, x0], dim=2))
        made = self.before.eval().converted(x0, mask, prompt, heard, noise)
        plain = self.noise.uniform(len(x0)) < self.plain
        return torch.where(plain[:, None, None], x0, made)

    def after_iteration(self) -> None:
        if self.iteration == self._ends[0] and len(self.lengths) > 1:
            self.before.load_state_dict(self.student.state_dict())
            self.forget_optimizer("student")
