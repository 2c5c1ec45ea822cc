"""Measures what a run's codec does to speech: at validation in short, at the end in full."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor, nn
from torchmetrics import Metric

from kdlight.callbacks.speech.utterances import HeldOut, save_utterances
from kdlight.callbacks.tensorboard import show_utterances
from kdlight.codec.codec import Codec
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveFloat, PositiveInt
from kdlight.core.ranks import joint_sum
from kdlight.errors import InputError
from kdlight.metrics.speech.catalogue import available
from kdlight.metrics.speech.evaluation import SpeechEvaluation, write_jsonl
from kdlight.metrics.speech.recognisers import make_recogniser
from kdlight.metrics.speech.round_trip import RoundTrip
from kdlight.metrics.speech.words import normaliser_of
from kdlight.report.table import summary_table
from kdlight.storage.files import write_json
from kdlight.training.base import DistillationModule
from kdlight.training.data import SpeechData, speech_of

Row = dict[str, Any]

PREVIEW = ("log_mel_l1", "si_sdr", "stoi")
"""What validation measures, as far as its packages are installed."""
QUICK = ("log_mel_l1", "mel_distance", "stft_distance", "si_sdr", "stoi", "estoi", "pesq_wb")
"""What the end measures unless told otherwise, as far as its packages are installed."""
WORDS = ("wer", "cer", "wer_reference", "cer_reference")
HEADLINE = ("model", "n_q", "kbps", *QUICK, *WORDS, "rtf_encode", "rtf_decode")


class CodecReport(Ranged, L.Callback):
    """Quality, rate, use of the codebooks and speed of what a run trains.

    At validation: figures of the first codec with all levels over ``preview`` utterances as
    ``val/<metric>``, and of each level ``val/usage_<level>`` and ``val/perplexity_<level>``. At
    the end (and for ``test``): a row per codec and number of levels, printed, and written to
    ``summary.json``; a line per utterance in ``utterances.jsonl``; the first utterances, original
    and decoded, with spectrograms, in ``samples/``. Ranks share the utterances.

    Args:
        n_q: Numbers of levels to decode with; powers of two and all by default.
        metrics: Names of :data:`kdlight.metrics.speech.catalogue.NAMES` for the end; null for
            those of :data:`QUICK` whose packages are installed.
        recogniser: Who listens where word errors are asked for; the best that is installed if null.
        language: Code of what is said, for the recogniser; others than English need one of many
            languages.
        normaliser: What texts go through before they are compared
            (:func:`~kdlight.metrics.speech.words.normalise`); by the language if null.
        utterances: Most utterances at the end; null for all. Speakers take turns.
        preview: Utterances at validation; 0 for none.
        shown: Utterances whose audio is kept.
        shown_seconds: Their audio is cut to this length.

    Raises:
        InputError: A number is out of range, a metric unknown; or, before training starts, the
            data hold nothing out or are of another sample rate, or there is no codec.
    """

    def __init__(
        self,
        n_q: list[int] | None = None,
        metrics: list[str] | None = None,
        recogniser: str | None = None,
        utterances: PositiveInt | None = 100,
        preview: NonNegativeInt = 8,
        shown: NonNegativeInt = 3,
        shown_seconds: PositiveFloat = 8.0,
        language: str = "en",
        normaliser: str | None = None,
    ) -> None:
        installed = available(transcripts=True)
        if metrics is None:
            metrics = [name for name in QUICK if name in installed]
        words = any(name.startswith("wer") for name in metrics)
        self.n_q = n_q
        self.utterances = utterances
        self.preview = preview
        self.shown = shown
        self.shown_seconds = shown_seconds
        self._evaluation = SpeechEvaluation(
            metrics,
            make_recogniser(recogniser, language) if words else None,
            transcripts=True,
            normaliser=normaliser_of(normaliser, language),
        )
        self._short = SpeechEvaluation([name for name in PREVIEW if name in installed])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, DistillationModule)
        found, data = speech_run(self, trainer, pl_module)
        for name, codec in found:
            if data.sample_rate != codec.sample_rate:
                raise InputError(
                    f"data.sample_rate: expected {codec.sample_rate} of the {name}, "
                    f"found {data.sample_rate}."
                )
            levels_of(codec, self.n_q)
        if not data.heldout_utterances():
            raise InputError("data.heldout: expected held-out utterances to measure, found none.")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        if trainer.sanity_checking or self.preview == 0:
            return
        _, codec = codecs_of(pl_module)[0]
        utterances = heldout(trainer, self.preview)
        row, _ = measured(trainer, pl_module.device, codec, codec.n_q, utterances, self._short)
        figures = {name: row[name] for name in self._short.figures}
        for name in ("usage", "perplexity"):
            figures |= {f"{name}_{level}": value for level, value in enumerate(row[name], start=1)}
        logged = {f"val/{name}": float(value) for name, value in figures.items()}
        logged |= {
            "iteration": float(pl_module.iteration),
            "val/updates": float(trainer.global_step),
        }
        pl_module.log_dict(logged, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def _summarise(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        log_dir = trainer.log_dir  # a collective: every rank asks, and once
        folder = Path(log_dir) if log_dir and trainer.is_global_zero else None
        utterances = heldout(trainer, self.utterances)
        rows: list[Row] = []
        lines: list[Row] = []
        for name, codec in codecs_of(pl_module):
            for n_q in levels_of(codec, self.n_q):
                row, measures = measured(
                    trainer, pl_module.device, codec, n_q, utterances, self._evaluation
                )
                rows.append({"model": name, **row})
                lines += [{"model": name, "n_q": n_q, **line} for line in measures]
        if folder is None:
            return
        write_jsonl(folder / "utterances.jsonl", lines)
        for name, codec in codecs_of(pl_module)[:1]:
            figures = {
                (str(line["utterance"]), int(line["n_q"])): line
                for line in lines
                if line["model"] == name
            }
            with resting(codec):
                save_utterances(
                    folder / "samples",
                    codec,
                    utterances[: self.shown],
                    levels_of(codec, self.n_q),
                    self.shown_seconds,
                    figures,
                )
            show_utterances(trainer, folder / "samples", pl_module.iteration)
        # Last: where there is a summary, the rest is there.
        write_json(folder / "summary.json", rows)
        print_rows(rows)


def codecs_of(module: DistillationModule) -> list[tuple[str, Codec]]:
    """The codecs that a run trains, by name, the most important first."""
    return [(name, model) for name, model in module.models().values() if isinstance(model, Codec)]


def speech_run(
    callback: L.Callback, trainer: L.Trainer, module: DistillationModule
) -> tuple[list[tuple[str, Codec]], SpeechData]:
    """The codecs and the data of a run, both refused before training if they are none.

    Raises:
        InputError: The method trains no codec, or the data are no speech.
    """
    owner = type(callback).__name__
    found = codecs_of(module)
    if not found:
        raise InputError(
            f"{owner}: expected a method that trains a codec, found {type(module).__name__}."
        )
    return found, speech_of(trainer, owner)


def levels_of(codec: Codec, asked: Sequence[int] | None) -> list[int]:
    """Numbers of levels to measure, rising: those asked for, else powers of two and all.

    Raises:
        InputError: The codec has fewer, or none are asked for.
    """
    if asked is None:
        return sorted({2**power for power in range(codec.n_q.bit_length())} | {codec.n_q})
    if not asked or min(asked) < 1 or max(asked) > codec.n_q:
        raise InputError(f"n_q: expected numbers from 1 to {codec.n_q}, found {list(asked)}.")
    return sorted(set(asked))


def heldout(trainer: L.Trainer, count: int | None) -> list[HeldOut]:
    """The first held-out utterances of the run's data."""
    return speech_of(trainer, "data").heldout_utterances()[:count]


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, without gradient."""
    before = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(before)


def measured(
    trainer: L.Trainer,
    device: torch.device,
    codec: Codec,
    n_q: int,
    utterances: Sequence[HeldOut],
    evaluation: SpeechEvaluation,
) -> tuple[Row, list[Row]]:
    """A codec with ``n_q`` levels on all utterances, every rank taking its share of them.

    Returns:
        The row: figures of the codes, means of ``evaluation`` (the rate of all words together for
        word errors) and real-time factors; and the rows of the utterances. The same on all ranks.
    """
    evaluation.reset()
    with resting(codec):
        trip = RoundTrip(codec, n_q, device)
        for index, utterance in enumerate(utterances):
            if index % trainer.world_size != trainer.global_rank:
                continue
            audio = utterance.read()[0]
            transcript = utterance.transcript or None
            evaluation.update(utterance.name, audio, trip(audio), codec.sample_rate, transcript)
    evaluation.rows = joint_rows_of(evaluation.rows)
    for metric in (trip.tokens, trip.match, trip.encoding, trip.decoding):
        join(metric, device)
    codes = trip.row()
    figures = {
        figure: found.get("corpus", found["mean"]) for figure, found in evaluation.summary().items()
    }
    row: Row = {
        "kbps": codes["bitrate"] / 1000,
        **codes,
        "rtf_encode": codes["rtf_encode_wall"],
        "rtf_decode": codes["rtf_decode_wall"],
        "utterances": len(evaluation.rows),
        "seconds": sum(float(found["seconds"]) for found in evaluation.rows),
        **figures,
    }
    return row, list(evaluation.rows)


def joint_rows_of(rows: list[Row]) -> list[Row]:
    """The rows of all ranks, in the order in which ranks took turns."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    shares: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, rows)
    longest = max(len(share) for share in shares)
    return [share[turn] for turn in range(longest) for share in shares if turn < len(share)]


def join(metric: Metric, device: torch.device) -> None:
    """Sum a metric's states over the ranks on ``device``, where the ranks can talk."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    for name, value in metric.metric_state.items():
        assert isinstance(value, Tensor)
        setattr(metric, name, joint_sum(value.to(device)).to(value.device))
    # They are joint now; computing must not gather them again.
    metric.distributed_available_fn = lambda: False


def print_rows(rows: list[Row], names: Sequence[str] = HEADLINE, title: str | None = None) -> None:
    """The figures of these names as a table; the file has them all."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    shown = [{key: row[key] for key in names if key in row} for row in rows]
    console.print(summary_table(shown, title))
