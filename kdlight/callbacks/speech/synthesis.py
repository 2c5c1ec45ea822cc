"""Does a synthesiser speak? Held-out speakers and sentences, against their exact synthesis."""

import copy
import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.callbacks.speech.players import Said, Version, keep_players
from kdlight.core.noise import mix
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.metrics.speech.synthesis import PhoneProbe, SpectrogramScores
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of

Walk = tuple[str, Synthesiser, int]
BATCH = 16


class SynthesisReport(RowsReport):
    """Rows of ``summary.json`` when training ends (and for ``test``), and sentences to listen to.

    A row for the teacher in full and forced to the students' steps, and for every student.
    Speakers were not trained on: a voice is described by ``enrolment`` of its sentences, and the
    others are spoken, once with their true durations and pitch (energy is always predicted) and,
    in the figures that end in ``_free``, with predicted ones. Floors are of the same sentences,
    synthesised again with other noise, where the data can do that.

    Args:
        sentences: Most sentences that are measured.
        enrolment: Sentences that describe a voice.
        listen: Sentences whose audio is kept.
        seed: Seed of the noise.
    """

    headline = (
        *("model", "steps", "nfe", "mel_patches", "mel_patches_floor", "modulation"),
        *("phones_heard", "mel_l1", "duration_error", "pitch_error", "times_real_time"),
    )

    def __init__(
        self, sentences: int = 64, enrolment: int = 4, listen: int = 4, seed: int = 0
    ) -> None:
        if sentences < 2 or enrolment < 1 or listen < 0:
            raise InputError(
                "SynthesisReport: expected two sentences or more, an enrolment of at least one "
                f"and listen of at least 0, found {sentences}, {enrolment} and {listen}."
            )
        self.sentences, self.enrolment = sentences, enrolment
        self.listen, self.seed = listen, seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        held = data.heldout_sentences() if hasattr(data, "heldout_sentences") else {}
        if not any(len(said) > self.enrolment for said in held.values()):
            raise InputError(
                f"SynthesisReport: expected a held-out speaker with more than {self.enrolment} "
                f"sentences, found none in {type(data).__name__}."
            )
        if not hasattr(pl_module, "synthesisers"):
            raise InputError(
                "SynthesisReport: expected a method that trains a synthesiser, found "
                f"{type(pl_module).__name__}."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        assert isinstance(module, DistillationModule)
        data = data_of(trainer)
        walks = walks_of(module)
        told = Sentences(walks[0][1], data, self.sentences, self.enrolment)
        rows: list[Row] = []
        drawn = []
        for name, model, steps in walks:
            model.eval()
            row: Row = {
                "model": name,
                "steps": steps,
                "nfe": model.evaluations(steps),
                "algorithm": model.algorithm,
            }
            mels, figures = told.measure(model, steps, self.seed)
            rows.append(row | figures)
            drawn.append((name, steps, mels))
        if folder is not None:
            self._keep(folder / "samples", told, drawn, rows)
        return rows

    def _keep(
        self,
        folder: Path,
        told: "Sentences",
        drawn: list[tuple[str, int, list[Tensor]]],
        rows: list[Row],
    ) -> None:
        """Some sentences to listen to."""
        log_mel = told.model.log_mel
        kept = []
        for index, said in enumerate(told.spoken[: self.listen]):
            versions = [Version("exact synthesis", said["audio"])]
            for (name, steps, mels), row in zip(drawn, rows, strict=True):
                label = f"{name}, {steps} step{'s' * (steps > 1)}"
                patches = row["mel_patches"]
                figures = {"mel_patches": patches} if math.isfinite(patches) else {}
                versions.append(Version(label, log_mel.listen(mels[index]), figures))
            kept.append((Said(said["path"], said["speaker"], said["transcript"]), versions))
        keep_players(folder, kept, log_mel.sample_rate)


def walks_of(module: Any) -> list[Walk]:
    """The teacher in full and at the students' steps, on their levels, then the students."""
    students = sorted(
        ((name, model, model.steps[0]) for name, model in module.synthesisers().values()),
        key=lambda walk: -walk[2],
    )
    teacher = module.teacher_synthesiser()
    if teacher is None:  # a teacher itself: as it was made, and forced to fewer steps
        name, model, steps = students[0]
        fewer = [steps >> halvings for halvings in range(1, steps.bit_length())]
        return [*students, *((name, model, count) for count in fewer if model.accepts(count))]
    forced: list[Walk] = []
    for _, student, steps in students:
        made = copy.copy(teacher)  # the same parts, on the student's levels
        made.grid = student.grid
        forced.append(("teacher", made, steps))
    return [("teacher", teacher, teacher.steps[0]), *forced, *students]


class Sentences:
    """Held-out sentences in voices that are described by others of their speakers.

    Args:
        model: For the scale of its spectrogram.
        data: With ``heldout_sentences``, ``training_sentences`` and, for floors, ``retake``.
        most: Most sentences.
        enrolment: Sentences that describe a voice.
    """

    def __init__(self, model: Synthesiser, data: Any, most: int, enrolment: int) -> None:
        self.model = model
        self.spoken: list[dict[str, Any]] = []
        held = data.heldout_sentences()
        voices = {name: model.describe(said[:enrolment]) for name, said in held.items()}
        turns = max(len(said) for said in held.values())
        for turn in range(enrolment, turns):  # speakers in turns
            self.spoken += [
                said[turn] | {"voice": voices[name]}
                for name, said in held.items()
                if turn < len(said)
            ]
        self.spoken = self.spoken[:most]
        for said in self.spoken:
            said["mel"] = self._mel(said)
        self.probe = PhoneProbe(len(model.phones) + 1)
        learnt = [each for said in data.training_sentences().values() for each in said[:8]]
        self.probe.learn([self._mel(each) for each in learnt], [_labels(each) for each in learnt])
        self.floors = self._floors(data)

    def _mel(self, said: dict[str, Any]) -> Tensor:
        audio: Tensor = said["audio"].to(self.model.table.device)
        mel: Tensor = self.model.log_mel(audio[None])[0].cpu()
        return mel

    def _floors(self, data: Any) -> Row:
        found = {"phones_heard_floor": self._heard([said["mel"] for said in self.spoken])}
        if not hasattr(data, "retake"):
            return found
        again = [self._mel({"audio": data.retake(said["path"])}) for said in self.spoken]
        scores = self._scores(again, aligned=True)
        return found | {f"{name}_floor": value for name, value in scores.items()}

    def _heard(self, mels: list[Tensor]) -> float:
        pairs = zip(mels, self.spoken, strict=True)
        right = torch.cat([self.probe.heard(mel) == _labels(said) for mel, said in pairs])
        return float(right.float().mean())

    def _scores(self, mels: list[Tensor], aligned: bool) -> Row:
        log_mel = self.model.log_mel
        scores = SpectrogramScores(log_mel.sample_rate / log_mel.hop_length)
        for mel, said in zip(mels, self.spoken, strict=True):
            scores.update(mel, said["mel"], log_mel.scale.cpu() if aligned else None)
        figures = scores.compute()
        names = scores.names if aligned else ("mel_patches", "modulation")
        return {name: float(figures[name]) for name in names}

    def measure(self, model: Synthesiser, steps: int, seed: int) -> tuple[list[Tensor], Row]:
        """Spectrograms with true durations and pitch, and the figures of a row."""
        mels, _ = self._drawn(model, steps, seed, ("phones", "speaker", "durations", "pitch"))
        free, seconds = self._drawn(model, steps, seed, ("phones", "speaker"))
        frames = sum(mel.shape[1] for mel in free)
        length = frames * model.log_mel.hop_length / model.log_mel.sample_rate
        row = self._scores(mels, aligned=True) | {"phones_heard": self._heard(mels)}
        row |= {f"{name}_free": value for name, value in self._scores(free, aligned=False).items()}
        row |= self._front_end(model) | {"times_real_time": length / seconds}
        return mels, row | self.floors

    def _batches(self) -> list[Condition]:
        found = []
        for start in range(0, len(self.spoken), BATCH):
            said = self.spoken[start : start + BATCH]
            condition = {
                name: pad_sequence([each[name] for each in said], batch_first=True)
                for name in ("phones", "durations", "pitch")
            }
            condition["speaker"] = torch.stack([each["voice"] for each in said])
            found.append(condition)
        device = self.model.table.device
        return [{name: value.to(device) for name, value in each.items()} for each in found]

    def _drawn(
        self, model: Synthesiser, steps: int, seed: int, known: tuple[str, ...]
    ) -> tuple[list[Tensor], float]:
        """Spectrograms of all sentences, and the CPU seconds that they took."""
        mels: list[Tensor] = []
        seconds = 0.0
        for number, batch in enumerate(self._batches()):
            before = time.process_time()
            condition = model.front_end.predict({name: batch[name] for name in known})
            mask = condition["mask"]
            generator = torch.Generator().manual_seed(mix(seed, number))
            shape = (len(mask), model.log_mel.bands, mask.shape[1])
            noise = torch.randn(shape, generator=generator).to(mask.device)
            drawn = model.draw(condition, noise, steps).cpu()
            seconds += time.process_time() - before
            counts = mask.sum(dim=1).tolist()
            mels += [mel[:, :count] for mel, count in zip(drawn, counts, strict=True)]
        return mels, seconds

    def _front_end(self, model: Synthesiser) -> Row:
        """Errors of predicted durations (ms a phone) and pitch (root mean square, percent)."""
        lasts = pitch = phones = frames = 0.0
        for batch in self._batches():
            free = model.front_end.predict({name: batch[name] for name in ("phones", "speaker")})
            known = {name: batch[name] for name in ("phones", "speaker", "durations")}
            guided = model.front_end.predict(known)
            wrong = (free["durations"] - batch["durations"]).abs().float()
            lasts, phones = lasts + float(wrong.sum()), phones + float((batch["phones"] > 0).sum())
            mask = guided["mask"]
            error = (guided["pitch"] - batch["pitch"])[mask].square()
            pitch, frames = pitch + float(error.sum()), frames + float(mask.sum())
        frame = 1000 * model.log_mel.hop_length / model.log_mel.sample_rate
        return {
            "duration_error": frame * lasts / phones,
            "pitch_error": 100 * (pitch / frames) ** 0.5,
        }


def _labels(said: dict[str, Any]) -> Tensor:
    """Phone of each frame, (F,)."""
    labels: Tensor = said["phones"].repeat_interleave(said["durations"])
    return labels
