"""Is a recording in another voice what that voice would have said? Held-out speakers, in pairs."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.callbacks.speech.conversion import labelled, mean_distance
from kdlight.callbacks.speech.players import Said, Version, keep_players
from kdlight.codec.frames import FrameGrid
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.errors import InputError
from kdlight.metrics.speech.conversion import FittedProbe, voice_row
from kdlight.networks.speech.timbre_converter import TimbreConverter
from kdlight.training.data import data_of


class TimbreReport(Ranged, RowsReport):
    """Rows of ``summary.json`` when training ends (and for ``test``), and conversions to listen to.

    Each held-out recording is said in the voice of the next held-out speaker, of whom one other
    recording is heard. Rows are the ``student``, the model ``before`` its own twins, and the
    ``source`` as it is; the figures are those of
    :class:`~kdlight.callbacks.speech.conversion.ConversionReport`, its classifiers fitted to
    recordings of the held-out voices and of the training ones: ``mel_to_target``,
    ``mel_to_source``, ``target_share``, ``phone_probe``.

    Args:
        utterances: Most held-out recordings; speakers take turns.
        learnt: Training recordings that the classifier of phones is fitted to.
        shown: Conversions that are kept to listen to.
    """

    def __init__(
        self, utterances: PositiveInt = 32, learnt: PositiveInt = 48, shown: NonNegativeInt = 3
    ) -> None:
        self.utterances, self.learnt, self.shown = utterances, learnt, shown

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if not isinstance(getattr(pl_module, "student", None), TimbreConverter):
            raise InputError(
                "TimbreReport: expected a method that trains a converter of timbre, found "
                f"{type(pl_module).__name__}."
            )
        held = data.heldout_utterances() if hasattr(data, "parallel") else []
        if len({utterance.speaker for utterance in held}) < 2:
            raise InputError(
                "TimbreReport: expected two held-out speakers or more whose other voices are "
                f"known, found {type(data).__name__} without."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        data, student = data_of(trainer), module.student
        log_mel = student.log_mel
        grid = FrameGrid(log_mel.sample_rate, log_mel.hop_length)

        def spectrogram(utterance: Any) -> Tensor:
            mel: Tensor = log_mel.raw(utterance.read()[None].to(module.device))[0]
            return mel.T.cpu()

        every = data.heldout_utterances()
        held = every[: self.utterances]
        names = sorted({utterance.speaker for utterance in every})
        after = dict(zip(names, [*names[1:], names[0]], strict=True))
        # The last of a speaker: the first ones are said.
        references = {utterance.speaker: utterance for utterance in every}
        wanted = [data.parallel(utterance, after[utterance.speaker]) for utterance in held]
        true = [spectrogram(utterance) for utterance in wanted]
        own = [spectrogram(utterance) for utterance in held]
        voices = FittedProbe(
            torch.stack([voice_row(spectrogram(each)) for each in every]),
            torch.tensor([names.index(each.speaker) for each in every]),
        )
        learnt = data.training_utterances()
        learnt = learnt[:: max(1, len(learnt) // self.learnt)]
        phones = FittedProbe(*labelled(learnt, [spectrogram(each) for each in learnt], grid))
        targets = torch.tensor([names.index(after[each.speaker]) for each in held])

        made: dict[str, list[Tensor]] = {}
        for name, model in (("student", student), ("before", module.before)):
            if name == "before" and not model.centroids.any():
                continue
            training, model = model.training, model.eval()
            made[name] = [
                log_mel.natural(model.convert(said.read(), references[there.speaker].read())[None])[
                    0
                ].T.cpu()
                for said, there in zip(held, wanted, strict=True)
            ]
            model.train(training)
        rows = []
        for name, mels in (made | {"source": own}).items():
            row: Row = {"model": name}
            row["mel_to_target"] = mean_distance(mels, true)
            row["mel_to_source"] = mean_distance(mels, own)
            row["target_share"] = voices.right(torch.stack([voice_row(m) for m in mels]), targets)
            row["phone_probe"] = phones.right(*labelled(held, mels, grid))
            rows.append(row)
        if folder is not None:
            kept = []
            for index, (said, there) in enumerate(zip(held[: self.shown], wanted, strict=False)):
                versions = [Version("original", said.read()), Version("true", there.read())]
                for name, mels in made.items():
                    mel = log_mel.normalised(mels[index].T[None].to(module.device))[0]
                    versions.append(Version(name, log_mel.listen(mel)))
                kept.append((Said(said.name, said.speaker, said.transcript), versions))
            keep_players(folder / "samples", kept, log_mel.sample_rate)
        return rows
