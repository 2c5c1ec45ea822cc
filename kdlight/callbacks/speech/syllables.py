"""Do a run's segments fall where syllables do? Held-out speakers, against the true boundaries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.codec.frames import FrameGrid
from kdlight.codec.syllable_encoder import SyllableEncoder
from kdlight.codec.syllables import (
    Segments,
    evenly,
    greedy_segments,
    normalised_threshold,
    refine_segments,
    threshold_for_count,
)
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from kdlight.errors import InputError
from kdlight.metrics.speech.boundaries import (
    BoundaryScores,
    Window,
    around,
    between,
    edges,
    joints,
)
from kdlight.teachers.frames import FrameTeacher
from kdlight.teachers.mel import MelTeacher
from kdlight.training.base import DistillationModule
from kdlight.training.data import speech_of

NEAR = 0.02
"""Seconds that a boundary may lie inside a vowel: one frame."""


class SyllableReport(Ranged, RowsReport):
    """Boundaries of the student's syllables, and of the plain features beside it.

    When training ends (and for ``test``): a row of ``summary.json`` for the student, for the
    teacher's features and for the log-mel spectrogram. Each is cut by the same greedy rule, at the
    threshold that finds as many segments on training recordings as they have peaks of intensity,
    so that none is judged at a better place of its own curve.

    ``nucleus_...`` asks for one boundary between the vowels of neighbouring syllables, wherever it
    lies there; ``boundary_...`` for every start and end of a true syllable, to ``tolerance``.
    ``refined_f1`` is the F1 of the first question after boundaries have been moved and merged, as
    ``encode --segments`` does; of all rows alike, at the same thresholds.

    Args:
        teacher: Whose features are cut beside the student's; null leaves the row out.
        utterances: Most held-out recordings; null for all.
        tolerance: Seconds that a boundary may be off.
        rate: Segments a second of speech of every row; null counts peaks of intensity.
        calibration: Training recordings that thresholds of teacher and spectrogram are found on.

    Raises:
        InputError: A number is out of range; or, before training starts, the method trains no
            :class:`~kdlight.codec.syllable_encoder.SyllableEncoder`, or the data know no syllables.
    """

    headline = (
        *("model", "nucleus_precision", "nucleus_recall", "nucleus_f1", "nucleus_r_value"),
        *("refined_f1", "boundary_f1", "boundary_r_value", "segments_per_second"),
    )

    def __init__(
        self,
        teacher: FrameTeacher | None = None,
        utterances: PositiveInt | None = None,
        tolerance: NonNegativeFloat = 0.05,
        rate: PositiveFloat | None = None,
        calibration: PositiveInt = 48,
    ) -> None:
        self.teacher = teacher
        self.utterances = utterances
        self.tolerance = tolerance
        self.rate = rate
        self.calibration = calibration

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, DistillationModule)
        encoder_of(pl_module)
        data = speech_of(trainer, "SyllableReport")
        held = data.heldout_utterances()
        if not held or not all(getattr(utterance, "syllables", None) for utterance in held):
            raise InputError(
                "SyllableReport: expected held-out speech whose syllables are known, found "
                f"{type(data).__name__} without."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        assert isinstance(module, DistillationModule)
        data = speech_of(trainer, "SyllableReport")
        encoder = encoder_of(module).eval()
        listeners = {"student": Listener(encoder)}
        if self.teacher is not None:
            listeners["teacher"] = Listener(encoder, self.teacher.to(module.device))
        mel = MelTeacher(80, encoder.sample_rate, encoder.hop_length, 2 * encoder.hop_length)
        listeners["log_mel"] = Listener(encoder, mel.to(module.device))
        learnt = evenly(data.training_utterances(), self.calibration)
        rows: list[Row] = []
        for name, listener in listeners.items():
            listener.calibrate(learnt, self.rate)
            scores = BoundaryScores("boundary_"), BoundaryScores("nucleus_")
            moved = BoundaryScores("refined_")
            seconds = segments = 0.0
            for utterance in data.heldout_utterances()[: self.utterances]:
                found, refined, spoken = listener.segments(utterance)
                scores[0].update(edges(found), around(edges(utterance.syllables), self.tolerance))
                for score, cut in ((scores[1], found), (moved, refined)):
                    score.update(within(cut, utterance.nuclei), between(utterance.nuclei, NEAR))
                seconds, segments = seconds + spoken, segments + len(found)
            row: Row = {"model": name}
            for score in scores:
                figures = score.compute()
                row |= {key: float(figures[key]) for key in score.names}
            row["refined_f1"] = float(moved.compute()["refined_f1"])
            rows.append(row | {"segments_per_second": segments / seconds})
        return rows


def within(segments: Sequence[Window], vowels: Sequence[Window]) -> list[float]:
    """Boundaries between neighbouring segments that lie between the first vowel and the last.

    Args:
        segments: Starts and ends in seconds, in order.
        vowels: The same of the vowels of a recording.
    """
    first, last = vowels[0][1] - NEAR, vowels[-1][0] + NEAR
    return [time for time in joints(segments) if first <= time <= last]


def encoder_of(module: DistillationModule) -> SyllableEncoder:
    """The encoder that a run trains.

    Raises:
        InputError: It trains none.
    """
    models = (model for _, model in module.models().values())
    found = next((model for model in models if isinstance(model, SyllableEncoder)), None)
    if found is None:
        raise InputError(
            "SyllableReport: expected a method that trains an encoder of syllables, found "
            f"{type(module).__name__}."
        )
    return found


class Listener:
    """Features of recordings, and their cut at one threshold.

    Args:
        encoder: The student, whose rule of silence all share.
        teacher: Whose features; the student's if None.
    """

    def __init__(self, encoder: SyllableEncoder, teacher: FrameTeacher | None = None) -> None:
        self.encoder = encoder
        self.teacher = teacher
        self.mean: Tensor | float = 0.0
        self.scale: Tensor | float = 1.0
        self.threshold = 0.0

    def features(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Features (F, D) of one recording (1, 1, T)."""
        if self.teacher is None:
            return self.encoder(audio)[0]  # type: ignore[no-any-return]
        grid = FrameGrid(self.encoder.sample_rate, self.encoder.hop_length)
        return self.teacher(audio, lengths, grid).features[0]  # type: ignore[no-any-return]

    def heard(self, utterance: Any) -> tuple[Tensor, Tensor]:
        """Features (F, D) and frames of speech (F,) of a whole recording."""
        padded, lengths = self.encoder.whole(utterance.read())
        return self.features(padded, lengths), self.encoder.speech(padded, lengths)[0]

    def calibrate(self, utterances: Sequence[Any], rate: float | None) -> None:
        """Find the threshold, and for other features than the student's their mean and scale."""
        found = [self.heard(utterance) for utterance in utterances]
        wanted = sum(self.encoder.wanted(utterance.read(), rate) for utterance in utterances)
        if self.teacher is None:
            self.threshold = threshold_for_count(found, wanted)
        else:
            self.mean, self.scale, self.threshold = normalised_threshold(found, wanted)

    def segments(self, utterance: Any) -> tuple[list[Window], list[Window], float]:
        """Starts and ends in seconds, before and after refinement, and the seconds of speech."""
        features, speech = self.heard(utterance)
        features = (features - self.mean) / self.scale
        found = greedy_segments(features, speech, self.threshold)
        refined = refine_segments(features, found, self.threshold)
        rate = self.encoder.frame_rate

        def timed(segments: Segments) -> list[Window]:
            return [(start / rate, stop / rate) for start, stop in segments]

        return timed(found), timed(refined), int(speech.sum()) / rate
