"""Is a converted voice the target's, and are the words still there? Held-out speakers."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.callbacks.speech.players import Said, Version, keep_players
from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError
from kdlight.metrics.speech.conversion import FittedProbe, spread, voice_row
from kdlight.metrics.tokens.information import folds_within, linear_probe
from kdlight.training.data import data_of

FRAMES = 40
"""Most frames of one recording that a probe of phones sees, evenly spread."""


class ConversionReport(RowsReport):
    """What a converter to one voice makes of held-out speakers, into ``summary.json``.

    Conversions are kept in ``samples/`` beside the original and the true conversion, to listen to.
    When training ends (and for ``test``) two rows, of the ``student`` and of the ``source`` speech
    as it is:

    - ``mel_to_target``: mean absolute difference, in nats, to the log-mel spectrogram of the same
      reading in the target voice, which data of a synthesiser know; ``mel_to_source``: to that of
      the speech itself;
    - ``target_share``: how much of it a linear classifier of the training voices, fitted to
      recordings, hears as the target;
    - ``phone_probe``: how often a linear classifier of phones, fitted to recordings of the
      training speakers, is right;
    - ``content_speaker`` and ``content_phone``: how often linear classifiers read the speaker and
      the phone from the content (of the row ``source``: from the speech model's frames),
      cross-validated over recordings and over speakers.

    Args:
        utterances: Most held-out recordings; null for all. Speakers take turns.
        learnt: Recordings that the classifiers are fitted to.
        shown: Conversions that are kept to listen to, in ``samples/``.

    Raises:
        InputError: A number is out of range; or, before training starts, the method trains no
            converter, or the data do not know phones and other voices.
    """

    def __init__(self, utterances: int | None = None, learnt: int = 96, shown: int = 3) -> None:
        if (utterances is not None and utterances < 1) or learnt < 2 or shown < 0:
            raise InputError(
                "ConversionReport: expected utterances of at least 1, learnt of at least 2 and "
                f"shown of at least 0, found {utterances}, {learnt} and {shown}."
            )
        self.shown = shown
        self.utterances = utterances
        self.learnt = learnt

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if "converter" not in getattr(pl_module, "_modules", {}):
            raise InputError(
                "ConversionReport: expected a method that trains a converter, found "
                f"{type(pl_module).__name__}."
            )
        held = data.heldout_utterances() if hasattr(data, "parallel") else []
        if not held or any(utterance.phones is None for utterance in held):
            raise InputError(
                "ConversionReport: expected held-out speech whose phones and other voices are "
                f"known, found {type(data).__name__} without."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        data = data_of(trainer)
        converter, grid = module.converter.eval(), module.grid
        spectrum, target = converter.spectrum, module.corpus.target

        def spectrogram(utterance: Any) -> Tensor:
            audio: Tensor = utterance.read()
            mel: Tensor = spectrum.raw(audio[None].to(module.device))[0]
            return mel.T.cpu()

        learnt = data.training_utterances()
        learnt = [learnt[int(place)] for place in spread(len(learnt), self.learnt)]
        voices = sorted({utterance.speaker for utterance in learnt})
        spectra = [spectrogram(utterance) for utterance in learnt]
        voice_probe = FittedProbe(
            torch.stack([voice_row(each) for each in spectra]),
            torch.tensor([voices.index(utterance.speaker) for utterance in learnt]),
        )
        phone_probe = FittedProbe(*labelled(learnt, spectra, grid))

        held = data.heldout_utterances()[: self.utterances]
        parallel = [data.parallel(utterance, target) for utterance in held]
        wanted = [spectrogram(utterance) for utterance in parallel]
        own = [spectrogram(utterance) for utterance in held]
        heard = [described(module.source.teacher, each, grid, module.device) for each in held]
        inner = [converter.encode(each[None].to(module.device))[0] for each in heard]
        drawn = [converter.decode(each[None])[0].T for each in inner]
        made = [spectrum.natural(each).T.cpu() for each in drawn]
        rows: list[Row] = []
        for name, mels, contents in (
            ("student", made, [each.cpu() for each in inner]),
            ("source", own, heard),
        ):
            voice = torch.stack([voice_row(each) for each in mels])
            row: Row = {"model": name}
            row["mel_to_target"] = mean_distance(mels, wanted)
            row["mel_to_source"] = mean_distance(mels, own)
            labels = torch.full((len(voice),), voices.index(target))
            row["target_share"] = voice_probe.right(voice, labels)
            row["phone_probe"] = phone_probe.right(*labelled(held, mels, grid))
            rows.append(row | content_figures(held, contents, grid))
        converter.train()
        if folder is not None:
            shown = [
                (
                    Said(said.name, said.speaker, said.transcript),
                    [
                        Version("original", said.read()),
                        Version("converted", spectrum.listen(mel)),
                        Version("true", there.read()),
                    ],
                )
                for said, mel, there in zip(held, drawn[: self.shown], parallel, strict=False)
            ]
            keep_players(folder / "samples", shown, spectrum.sample_rate)
        return rows


def described(teacher: Any, utterance: Any, grid: FrameGrid, device: torch.device) -> Tensor:
    """Features (F, D) of a whole recording on the CPU."""
    audio = utterance.read()
    padded = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % grid.hop_length))[None]
    lengths = torch.tensor([audio.shape[-1]], device=device)
    features: Tensor = teacher(padded.to(device), lengths, grid).features[0].cpu()
    return features


def labelled(utterances: list[Any], frames: list[Tensor], grid: FrameGrid) -> tuple[Tensor, Tensor]:
    """Some frames (N, D) of recordings and the phone of each, (N,)."""
    rows, phones = [], []
    for utterance, each in zip(utterances, frames, strict=True):
        places = spread(len(each), FRAMES)
        rows.append(each[places])
        phones.append(utterance.phone_labels(grid.hop_length, 0, len(each))[places])
    return torch.cat(rows), torch.cat(phones)


def mean_distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Mean absolute difference of spectrograms (F, D), over all their frames."""
    total = sum(float((a - b).abs().sum()) for a, b in zip(found, wanted, strict=True))
    return total / sum(each.numel() for each in wanted)


def content_figures(utterances: list[Any], contents: list[Tensor], grid: FrameGrid) -> Row:
    """Speaker and phone read from content (F, D) of each recording; None for one speaker."""
    names = sorted({utterance.speaker for utterance in utterances})
    speakers = torch.tensor([names.index(utterance.speaker) for utterance in utterances])
    if len(names) < 2 or int(speakers.bincount().min()) < 2:
        return {"content_speaker": None, "content_phone": None}
    pooled = torch.stack([voice_row(each) for each in contents])
    folds = folds_within(speakers, torch.arange(len(speakers)), 5)
    rows, phones = labelled(utterances, contents, grid)
    counts = torch.tensor([len(spread(len(each), FRAMES)) for each in contents])
    across = (speakers % 5).repeat_interleave(counts)
    return {
        "content_speaker": linear_probe(pooled, speakers, folds).accuracy,
        "content_phone": linear_probe(rows, phones, across).accuracy,
    }
