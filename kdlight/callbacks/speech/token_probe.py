"""What did the tokens learn? Phones and speakers in each level, of speakers no training heard."""

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchaudio.functional import resample

from kdlight.callbacks.speech.codec import codecs_of, heldout, print_rows, resting, speech_run
from kdlight.callbacks.speech.spectrograms import levels, save_spectrogram
from kdlight.codec.codebook import kmeans, nearest
from kdlight.codec.codec import Codec
from kdlight.codec.frames import FrameGrid
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveFloat, PositiveInt, Range
from kdlight.errors import InputError
from kdlight.metrics.speech.packages import installed
from kdlight.metrics.speech.phones import PhoneAligner
from kdlight.metrics.speech.recognisers import RATE
from kdlight.metrics.tokens.information import UNLABELLED
from kdlight.metrics.tokens.meaning import TokenMeaning
from kdlight.storage.audio import write_audio
from kdlight.storage.files import read_json, write_json
from kdlight.teachers.frames import FrameTeacher
from kdlight.training.base import DistillationModule

Row = dict[str, Any]
TITLE = "What each level tells by itself"
PROBED = ("model", "n_q", "phone_information", "phone_accuracy", "speaker_accuracy")
UNITS = "teacher_unit_information"
"""Figure of how well codes tell a teacher's own units; it says nothing about meaning."""


class TokenProbe(Ranged, L.Callback):
    """Probes the codes of each level at the end of a run, on the held-out speakers.

    Into the rows of ``summary.json`` whose ``n_q`` is k go, of level k by itself,
    ``phone_information`` (cross-validated, a share of the phones' entropy), ``phone_accuracy`` and
    ``speaker_accuracy`` with their ``_chance``
    (:class:`~kdlight.metrics.tokens.meaning.TokenMeaning`).
    Rows that are not there are added, so it stands after ``CodecReport`` in the configuration.
    Into ``samples/`` go one-shot conversions of voice: the first level of one utterance with the
    other levels of another speaker's (SpeechTokenizer, arXiv:2308.16692, section 4.5), listed in
    ``utterances.json``.

    Args:
        phones: Where phones come from: ``data`` that know them, ``aligned`` by PocketSphinx with
            the transcript (English; utterances that cannot be aligned are left out), ``none`` for
            figures of speakers alone, as in another language, or ``auto`` for the first of these
            that can be had.
        utterances: Most utterances to probe; null for all. Speakers take turns.
        folds: Folds of the cross-validation.
        teacher: Whose k-means units to compare with too, as ``teacher_unit_information``. It rises
            with any pull to the teacher, even where phones get lost: never choose a weight by it.
        clusters: Number of these units.
        conversions: Conversions of voice to keep; 0 for none.
        seconds: They are cut to this length.

    Raises:
        InputError: A number is out of range; or, before training starts, there are none of the
            phones that are asked for, no codec, or too few held-out speakers.
    """

    def __init__(
        self,
        phones: Literal["auto", "data", "aligned", "none"] = "auto",
        utterances: PositiveInt | None = None,
        folds: Annotated[int, Range(3)] = 5,
        teacher: FrameTeacher | None = None,
        clusters: Annotated[int, Range(2)] = 100,
        conversions: NonNegativeInt = 2,
        seconds: PositiveFloat = 8.0,
    ) -> None:
        if phones not in ("auto", "data", "aligned", "none"):
            raise InputError(
                f"phones: expected 'auto', 'data', 'aligned' or 'none', found {phones!r}."
            )
        self.phones = phones
        self.utterances = utterances
        self.folds = folds
        self.teacher = teacher
        self.clusters = clusters
        self.conversions = conversions
        self.seconds = seconds
        self._source: str = "none"
        self._aligner: PhoneAligner | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, DistillationModule)
        speech_run(self, trainer, pl_module)
        found: list[Any] = heldout(trainer, self.utterances)
        self._source = self._source_of_phones(found)
        speakers = {utterance.speaker for utterance in found}
        if self._source != "none" and len(speakers) < self.folds:
            raise InputError(
                f"data.heldout: expected at least {self.folds} speakers, one a fold of TokenProbe, "
                f"found {len(speakers)}."
            )
        if self._source == "aligned":
            self._aligner = PhoneAligner()

    def _source_of_phones(self, utterances: list[Any]) -> str:
        known = all(utterance.phones is not None for utterance in utterances)
        told = any(utterance.transcript for utterance in utterances)
        if self.phones == "data" and not known:
            raise InputError("phones: expected data that know them, found none; try aligned.")
        if self.phones == "aligned" and not told:
            raise InputError("phones: expected transcripts to align, found none.")
        if self.phones != "auto":
            return self.phones
        if known:
            return "data"
        if told and installed("pocketsphinx"):
            return "aligned"
        rank_zero_warn(
            "TokenProbe: no figures of phones, for want of "
            + ("the package pocketsphinx." if told else "phones or transcripts in the data.")
        )
        return "none"

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._probe(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._probe(trainer, pl_module)

    def _probe(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, DistillationModule)
        log_dir = trainer.log_dir  # a collective: every rank asks, and once
        folder = Path(log_dir) if log_dir and trainer.is_global_zero else None
        utterances: list[Any] = heldout(trainer, self.utterances)
        rows: list[Row] = []
        for name, codec in codecs_of(module):
            figures = self._figures(trainer, module.device, codec, utterances)
            rows += level_rows(name, codec, figures)
        if folder is None:
            return
        _, codec = codecs_of(module)[0]
        if self.conversions:
            convert_voices(folder / "samples", codec, utterances, self.conversions, self.seconds)
        path = folder / "summary.json"
        # Last: where there is a summary, the rest is there.
        write_json(path, merged(read_json(path) if path.is_file() else [], rows))
        if any(row.get(figure) is not None for row in rows for figure in PROBED[2:]):
            print_rows(rows, PROBED, TITLE)
        else:
            print(f"{TITLE}: no figure, for want of phones and of more than one held-out speaker.")

    def _figures(
        self, trainer: L.Trainer, device: torch.device, codec: Codec, utterances: list[Any]
    ) -> dict[str, Tensor]:
        meaning = TokenMeaning(codec.n_q, codec.codebook_size, self.folds)
        units = TokenMeaning(codec.n_q, codec.codebook_size, self.folds)
        speakers = sorted({utterance.speaker for utterance in utterances})
        states: list[tuple[Tensor, Tensor, int, int]] = []
        with resting(codec):
            for index, utterance in enumerate(utterances):
                # Every rank needs the same units, so with a teacher every rank hears all.
                own = index % trainer.world_size == trainer.global_rank
                if not own and self.teacher is None:
                    continue
                audio = utterance.read()
                codes = codec.encode(audio[None].to(device))[0].cpu()
                speaker = speakers.index(utterance.speaker)
                if own:
                    labels = self._labels(utterance, audio, codec, codes.shape[1])
                    meaning.update(codes, labels, speaker, index)
                if self.teacher is not None:
                    grid = FrameGrid(codec.sample_rate, codec.hop_length)
                    told = self.teacher(audio[None], None, grid).features[0]
                    states.append((codes, told, speaker, index))
        gather(meaning, trainer.world_size)
        figures = dict(meaning.compute())
        if states:
            frames = torch.cat([told for _, told, _, _ in states])
            generator = torch.Generator().manual_seed(0)
            centroids, _ = kmeans(frames, self.clusters, 20, generator)
            for codes, told, speaker, index in states:
                units.update(codes, nearest(told, centroids), speaker, index)
            figures[UNITS] = units.information()
        return figures

    def _labels(self, utterance: Any, audio: Tensor, codec: Codec, frames: int) -> Tensor:
        if self._source == "data":
            labels: Tensor = utterance.phone_labels(codec.hop_length, 0, frames)
            return labels
        if self._aligner is None:
            return torch.full((frames,), UNLABELLED)
        heard = resample(audio, codec.sample_rate, RATE)[0]
        found = self._aligner(heard, RATE, utterance.transcript)
        if found is None:
            return torch.full((frames,), UNLABELLED)
        return found.labels(frames, codec.hop_length / codec.sample_rate)


def gather(metric: TokenMeaning, world_size: int) -> None:
    """Bring the rows of all ranks together on the CPU, where the ranks can talk."""
    if world_size < 2 or not (dist.is_available() and dist.is_initialized()):
        return
    state: Any = metric.rows
    shares: list[Any] = [None] * world_size
    dist.all_gather_object(shares, list(state))
    state[:] = [rows for share in shares for rows in share]
    # They are joint now; computing must not gather them again.
    metric.distributed_available_fn = lambda: False


def level_rows(model: str, codec: Codec, figures: dict[str, Tensor]) -> list[Row]:
    """One row a level of a codec, with the level's own figures."""
    rows = []
    for level in range(codec.n_q):
        row: Row = {"model": model, "n_q": level + 1}
        for name, values in figures.items():
            value = float(values[level] if values.ndim else values)
            row["probed_frames" if name == "frames" else name] = value
        rows.append({key: None if _is_nan(value) else value for key, value in row.items()})
    return rows


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def merged(rows: list[Row], found: list[Row]) -> list[Row]:
    """``rows`` with the figures of ``found``, joined by model and number of levels."""
    by_key = {(row.get("model"), row.get("n_q")): dict(row) for row in rows}
    for row in found:
        by_key.setdefault((row["model"], row["n_q"]), {}).update(row)
    return sorted(
        by_key.values(), key=lambda row: (str(row.get("model")), int(row.get("n_q") or 0))
    )


@torch.no_grad()
def converted(codec: Codec, source: Tensor, reference: Tensor) -> Tensor:
    """What ``source`` says in the voice of ``reference``: (1, T) and (1, S) to (1, T).

    Level 1 of the source with all other levels of the reference, repeated or cut to its length.
    """
    device = next(codec.parameters()).device
    said = codec.encode(source[None].to(device))
    voice = codec.encode(reference[None].to(device))
    place = torch.arange(said.shape[2], device=device) % voice.shape[2]
    codes = torch.cat([said[:, :1], voice[:, 1:, place]], dim=1)
    return codec.decode(codes)[0, :, : source.shape[-1]].cpu()


def convert_voices(
    folder: Path, codec: Codec, utterances: list[Any], count: int, seconds: float
) -> None:
    """Write conversions between neighbours of different speakers, and list them."""
    path = folder / "utterances.json"
    listed = read_json(path) if path.is_file() else []
    rate = codec.sample_rate
    pairs = [
        (first, second)
        for first, second in itertools.pairwise(utterances)
        if first.speaker != second.speaker
    ]
    for index, (said, voice) in enumerate(pairs[:count] if codec.n_q > 1 else []):
        cut = round(seconds * rate)
        source, reference = said.read()[:, :cut], voice.read()[:, :cut]
        with resting(codec):
            spoken = converted(codec, source, reference)
        files: list[Row] = []
        top = float(levels(source, rate).max())
        for n_q, kind, audio in ((None, "original", source), (codec.n_q, "converted", spoken)):
            stem = f"utterance_conversion_{index}_{kind}"
            write_audio(folder / f"{stem}.flac", audio.nan_to_num(), rate)
            save_spectrogram(audio.nan_to_num(), rate, folder / f"{stem}.png", top)
            files.append({"n_q": n_q, "file": stem, "figures": {}})
        listed.append(
            {
                "name": f"{said.name} in the voice of {voice.speaker}",
                "speaker": said.speaker,
                "transcript": said.transcript,
                "seconds": source.shape[-1] / rate,
                "sample_rate": rate,
                "versions": files,
            }
        )
    write_json(path, listed)
