"""Sylber: syllables by self-segmentation distillation (Cho et al. 2025, arXiv:2410.07168)."""

import bisect
import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.codec.frames import FrameGrid, frame_mask
from kdlight.codec.syllable_encoder import SyllableEncoder
from kdlight.codec.syllables import (
    evenly,
    normalised_threshold,
    segment_means,
    threshold_for_count,
)
from kdlight.core.noise import mix
from kdlight.core.ranks import joint_rows
from kdlight.errors import InputError
from kdlight.guidance.cuts import Cut, GreedyCut
from kdlight.guidance.sources import FeatureSource, SpeechUtterance, crop_starts
from kdlight.losses.guidance import mse_loss
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import speech_of
from kdlight.training.optim import Optimization


class SyllableDistillation(DistillationModule):
    """A student learns its teacher's features, averaged over the teacher's own segments.

    In the first stage the teacher is a frozen speech model; in later ones the student of the stage
    before, which also cuts. Frames that are no speech have the target zero. The student hears some
    of its audio with noise or another voice under it, the teacher never does.

    The released training program does not run (it reads settings that nothing makes), and its
    greedy cut sticks to the first frame of each segment after the first:
    :func:`kdlight.codec.syllables.greedy_segments`. The paper chooses the threshold by hand; here
    it is what finds as many segments on training recordings as they have peaks of intensity, so no
    label is needed and controls are cut equally often.

    Args:
        student: What is trained, and cuts in the end.
        source: The first stage's teacher.
        optimizer: Of the student; schedules span one stage.
        stage_iterations: Training batches of each stage in turn; a number is one stage.
        cut: Which frames share a target.
        rate: Segments a second of speech, such as 4.27 of the paper's encoder on LibriSpeech; null
            counts peaks of intensity.
        spread: From the second stage on, how far the threshold is drawn to both sides (the paper:
            0.05).
        calibration: Training recordings that thresholds are found on.
        noisy: Share of items that get noise.
        voices: Share of those whose noise is another item of the batch instead of white noise.
        gain: Least and most root mean square of the noise, the item's own being 1.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A number is out of range, or the widths of student and teacher differ.
    """

    # The encoder is called by more than `forward`.
    shardable: ClassVar[bool] = False
    mean: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(
        self,
        student: SyllableEncoder,
        source: FeatureSource,
        optimizer: Optimization,
        stage_iterations: int | list[int],
        cut: Cut | None = None,
        rate: float | None = None,
        spread: float = 0.05,
        calibration: int = 48,
        noisy: float = 0.2,
        voices: float = 0.25,
        gain: tuple[float, float] = (0.05, 0.7),
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        lengths = [stage_iterations] if isinstance(stage_iterations, int) else stage_iterations
        if not lengths or min(lengths) < 1:
            raise InputError(f"stage_iterations: expected numbers above 0, found {lengths}.")
        for name, value in (("noisy", noisy), ("voices", voices)):
            if not 0 <= value <= 1:
                raise InputError(f"{name}: expected from 0 to 1, found {value}.")
        if not 0 <= gain[0] <= gain[1]:
            raise InputError(f"gain: expected least and most, found {list(gain)}.")
        if not 0 <= spread < 1 or calibration < 1 or (rate is not None and rate <= 0):
            raise InputError(
                "expected spread from 0 to 1, calibration of at least 1 and a rate above 0, found "
                f"{spread}, {calibration} and {rate}."
            )
        if student.width != source.width:
            raise InputError(
                f"student.width: expected {source.width} of the teacher, found {student.width}."
            )
        super().__init__(sum(lengths), {"student": optimizer}, accumulate, seed, max_non_finite)
        self.lengths = lengths
        self._ends = list(itertools.accumulate(lengths))
        self.student = student
        self.source = source
        self.cut = cut or GreedyCut()
        self.rate = rate
        self.spread = spread
        self.calibration = calibration
        self.noisy = noisy
        self.voices = voices
        self.gain = gain
        self.grid = FrameGrid(student.sample_rate, student.hop_length)
        self.add_frozen("teacher", source.teacher)
        # The teacher of later stages. Blank until then: a checkpoint holds no teacher.
        self.previous = copy.deepcopy(student).requires_grad_(False).eval()
        for parameter in self.previous.parameters():
            parameter.zero_()
        # Of the teacher's features over training speech: raw states share a large mean, and
        # every cosine would be near 1.
        self.register_buffer("mean", torch.zeros(source.width))
        self.register_buffer("scale", torch.zeros(source.width))
        self.register_buffer("threshold", torch.tensor(torch.inf, dtype=torch.float64))

    @property
    def stage_index(self) -> int:
        """Index of the current stage, from 0; it stays at the last when all are done."""
        return min(bisect.bisect_right(self._ends, self.iteration), len(self.lengths) - 1)

    def stage(self) -> tuple[int, int]:
        return self.iteration - sum(self.lengths[: self.stage_index]), self.lengths[
            self.stage_index
        ]

    def describe_stage(self) -> str:
        teacher = "the student before" if self.stage_index else "the speech model"
        return f"stage {self.stage_index + 1} of {len(self.lengths)}: taught by {teacher}"

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"student": ("student", self.student)}

    # Before training and between stages -------------------------------------------------------

    def on_fit_start(self) -> None:
        """Let the source compute what it can; measure the teacher once in a run's life."""
        data = speech_of(self.trainer, "source")
        if data.sample_rate != self.student.sample_rate:
            raise InputError(
                f"data.sample_rate: expected {self.student.sample_rate} of the student, "
                f"found {data.sample_rate}."
            )
        utterances = data.training_utterances()
        self.source.prepare(utterances, self.global_rank, self.trainer.world_size)
        self.trainer.strategy.barrier("features")
        if self.threshold.isfinite():
            return
        some = evenly(utterances, self.calibration)
        heard = [self._described(each) for each in self._listening(some)]
        mean, scale, threshold = normalised_threshold(heard, self._wanted(some))
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.threshold.fill_(threshold)

    def after_iteration(self) -> None:
        if self.iteration not in self._ends:
            return
        # The stage ends: how similar are frames of one piece to the student now?
        data = speech_of(self.trainer, "source")
        self.student.eval()
        with torch.no_grad():
            some = evenly(data.training_utterances(), self.calibration)
            heard = []
            for utterance in self._listening(some):
                audio, lengths = self.student.whole(utterance.read())
                heard.append((self.student(audio)[0], self.student.speech(audio, lengths)[0]))
        self.student.train()
        found = threshold_for_count(heard, self._wanted(some))
        self.student.threshold.fill_(found)
        means = [
            features[start:stop].mean(dim=0)
            for features, speech in heard
            for start, stop in self.student.cut(features, speech)
        ]
        self.student.learn_units(torch.stack(means), self._seed)
        if self.iteration < self.iterations:
            self.previous.load_state_dict(self.student.state_dict())
            self.threshold.fill_(found)
            self.forget_optimizer("student")

    def _wanted(self, utterances: Sequence[SpeechUtterance]) -> float:
        return sum(self.student.wanted(each.read(), self.rate) for each in utterances)

    def _listening(self, utterances: Sequence[SpeechUtterance]) -> Iterable[SpeechUtterance]:
        bar: Iterable[SpeechUtterance] = tqdm(
            utterances, desc="Listening", delay=2, disable=self.global_rank > 0, leave=False
        )
        return bar

    @torch.no_grad()
    def _described(self, utterance: SpeechUtterance) -> tuple[Tensor, Tensor]:
        """The first teacher's features (F, D) of a whole recording, and its frames of speech."""
        audio, lengths = self.student.whole(utterance.read())
        batch = {
            "audio": audio,
            "lengths": lengths,
            "start": torch.zeros(1, dtype=torch.long),
            "total": lengths.cpu(),
            "path": [utterance.name],
            "transcript": [utterance.transcript],
        }
        like = audio.new_zeros(1, audio.shape[-1] // self.grid.hop_length, self.source.width)
        told = self.source.features(batch, self.grid, like)
        return told.features[0], (self.student.speech(audio, lengths) & told.mask)[0]

    # The algorithm ----------------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        # Section 3.2: z of clean audio, its segments, their means; h of noisy audio.
        audio, lengths = batch["audio"], batch["lengths"]
        with torch.no_grad():
            features, speech = self.taught(batch)
            threshold = float(self.threshold) + self.drawn_spread()
            target = torch.stack(
                [
                    segment_means(z, self.cut(z, heard, threshold, seed))
                    for z, heard, seed in zip(features, speech, self.seeds(batch), strict=True)
                ]
            )
        student = self.student(self.with_noise(audio))
        counted = frame_mask(lengths, self.grid.hop_length, student.shape[1])
        # Summed over channels (eq. 2), a mean over the frames of all ranks.
        loss = self.student.width * mse_loss(student, target, counted)
        self.optimize("student", loss)
        self.report({"distillation": loss.detach(), "threshold": threshold})

    def taught(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (B, F, D) of the stage's teacher, and the frames of speech (B, F)."""
        audio = batch["audio"]
        speech = self.student.speech(audio, batch["lengths"])
        if self.stage_index:
            return self.previous(audio), speech
        like = audio.new_zeros(*speech.shape, self.source.width)
        told = self.source.features(batch, self.grid, like)
        return (told.features - self.mean) / self.scale, speech & told.mask

    def seeds(self, batch: Batch) -> list[int]:
        """A number for every crop, the same whenever it comes."""
        crops = zip(batch["path"], crop_starts(batch), strict=True)
        return [mix(self._seed, start, *name.encode()) for name, start in crops]

    def drawn_spread(self) -> float:
        """How far this batch's threshold lies from the stage's: nothing in the first stage."""
        if self.stage_index == 0:
            return 0.0
        return self.spread * (2 * self.noise.common(1001) / 1000 - 1)

    def with_noise(self, audio: Tensor) -> Tensor:
        """Audio (B, 1, T), some of it under noise or another item of the joint batch."""
        count = len(audio)
        everyone = joint_rows(audio)
        white = self.noise.normal(audio)
        other = everyone[self.noise.integers(count, len(everyone))]
        draws = self.noise.uniform(count, 3).to(audio)
        noise = torch.where((draws[:, 1] < self.voices)[:, None, None], other, white)
        low, high = self.gain
        gain = (low + (high - low) * draws[:, 2]) * (draws[:, 0] < self.noisy)
        return audio + gain[:, None, None] * noise * (_loudness(audio) / _loudness(noise))


def _loudness(audio: Tensor) -> Tensor:
    """Root mean square of each item, (B, 1, 1)."""
    return audio.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-8)
