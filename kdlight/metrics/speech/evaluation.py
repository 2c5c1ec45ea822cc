"""A set of utterances measured: a row for each, and a summary of each figure."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.speech.bootstrap import bootstrap, mean_interval
from kdlight.metrics.speech.catalogue import (
    SIGNAL_METRICS,
    WORD_METRICS,
    Cells,
    Pair,
    Sound,
    SpeechMetric,
    Utterance,
    WordMetric,
    available,
    check_metric,
)
from kdlight.metrics.speech.recognisers import Recogniser, make_recogniser
from kdlight.storage.atomic import atomic_path

Summary = dict[str, float | int]
TOLERATED_SHARE = 0.01
TOLERATED_SECONDS = 0.05


def check_lengths(reference: float, degraded: float, name: str) -> None:
    """Complain about two lengths in seconds that differ by 1 % and by 50 ms, or by more.

    Raises:
        InputError: They do, or one is 0.
    """
    gap = abs(reference - degraded)
    close = gap < max(TOLERATED_SHARE * reference, TOLERATED_SECONDS)
    if min(reference, degraded) <= 0 or not close:
        raise InputError(
            f"{name}: expected the {reference:.3f} s of the reference to less than 1 % or 50 ms, "
            f"found {degraded:.3f} s."
        )


def align(
    reference: Tensor, degraded: Tensor, sample_rate: int, name: str = "audio"
) -> tuple[Tensor, Tensor]:
    """Cut two signals to the shorter one, if they nearly have one length.

    Codecs round lengths up to whole frames. A delay is not searched for: it is the codec's, and a
    codec that shifts its audio is measured as it is.

    Args:
        reference: Original audio, (T,).
        degraded: What came out of a codec, (T',).
        sample_rate: In Hz, of both.
        name: Of the utterance, for the complaint.

    Raises:
        InputError: As :func:`check_lengths`.
    """
    check_lengths(len(reference) / sample_rate, len(degraded) / sample_rate, name)
    shorter = min(len(reference), len(degraded))
    return reference[:shorter], degraded[:shorter]


class SpeechEvaluation:
    """Measures utterances, keeps a row of each, and sums them up.

    Args:
        metrics: Names of :data:`kdlight.metrics.speech.catalogue.NAMES`; None takes all whose
            packages are installed.
        recogniser: Who listens for the word errors; None takes the best that is installed.
        transcripts: Whether utterances come with transcripts: without, ``wer`` is not among the
            metrics of None.
        normaliser: What texts go through before they are compared
            (:func:`~kdlight.metrics.speech.words.normalise`).

    Raises:
        InputError: A name is unknown, or a package of an asked-for metric is missing.
    """

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        recogniser: Recogniser | None = None,
        transcripts: bool = False,
        normaliser: str = "english",
    ) -> None:
        if metrics is None:
            metrics = available(transcripts, recogniser is not None)
        names = list(dict.fromkeys(metrics))
        for name in names:
            check_metric(name)
        self.metrics: list[SpeechMetric] = [
            SIGNAL_METRICS[name] for name in names if name in SIGNAL_METRICS
        ]
        heard = [name for name in names if name in WORD_METRICS]
        if heard:
            listener = recogniser or make_recogniser(None)
            self.metrics.append(WordMetric(listener, heard, normaliser))
        self.figures = [figure for metric in self.metrics for figure in metric.figures]
        self.rows: list[Cells] = []

    def reset(self) -> None:
        """Forget the rows, so that another system can be measured on the same utterances."""
        self.rows = []

    def update(
        self,
        name: str,
        reference: Tensor,
        degraded: Tensor,
        sample_rate: int,
        transcript: str | None = None,
        original: Sound | None = None,
        decoded: Sound | None = None,
    ) -> Cells:
        """Measure one utterance.

        Args:
            name: Its name, the same for every system.
            reference: Original audio, (T,), in [-1, 1].
            degraded: What came out of a codec, (T',).
            sample_rate: In Hz, of both.
            transcript: What was said, if it is known.
            original: What a recogniser hears of the original, at its file's own rate, so that it
                does not depend on the rate of a comparison; the reference by default.
            decoded: The same of the degraded side.

        Returns:
            Its row: ``utterance``, ``seconds`` of the reference, ``longer`` (seconds by which the
            degraded side is longer; both are cut for the metrics that compare sample with sample),
            the figures (NaN where one cannot be computed, all of them if a side is not finite) and
            what the recogniser heard.

        Raises:
            InputError: As :func:`align`.
        """
        row: Cells = {
            "utterance": name,
            "seconds": len(reference) / sample_rate,
            "longer": (len(degraded) - len(reference)) / sample_rate,
        }
        whole = Pair(reference.detach().cpu(), degraded.detach().cpu())
        cut = Pair(*align(*whole, sample_rate, name))
        if all(bool(side.isfinite().all()) for side in whole):
            original = original or Sound(whole.reference, sample_rate)
            decoded = decoded or Sound(whole.degraded, sample_rate)
            utterance = Utterance(name, cut, whole, sample_rate, original, decoded, transcript)
            for metric in self.metrics:
                row |= metric.measure(utterance)
        else:
            row |= dict.fromkeys(self.figures, math.nan)
        self.rows.append(row)
        return row

    def summary(self) -> dict[str, Summary]:
        """Each figure over all rows.

        Returns:
            By figure: ``mean``, ``low`` and ``high`` (95 % bootstrap over utterances, fixed seed)
            and ``median`` of the utterances that have one, their ``count``, and ``nan``, the
            number of those that have none. Word errors also have ``corpus``, ``corpus_low`` and
            ``corpus_high``: the rate of all words together, which papers report.
        """
        found = {figure: self._summed(figure) for figure in self.figures}
        for metric in self.metrics:
            for figure, (columns, rate) in metric.pools.items():
                counted = [row for row in self.rows if columns[0] in row]
                interval = bootstrap(
                    [[float(row[name]) for row in counted] for name in columns], rate
                )
                names = ("corpus", "corpus_low", "corpus_high")
                found[figure] |= dict(zip(names, interval, strict=True))
        return found

    def _summed(self, figure: str) -> Summary:
        values = [float(row[figure]) for row in self.rows]
        finite = [value for value in values if math.isfinite(value)]
        interval = mean_interval(finite)
        return {
            "mean": interval.value,
            "low": interval.low,
            "high": interval.high,
            "median": statistics.median(finite) if finite else math.nan,
            "count": len(finite),
            "nan": len(values) - len(finite),
        }

    def provenance(self) -> dict[str, dict[str, str]]:
        """By figure: the package and its version, the mapping, the model."""
        return {figure: metric.provenance() for metric in self.metrics for figure in metric.figures}


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSON, one a line, atomically; a NaN or an infinity becomes null."""
    lines = []
    for row in rows:
        finite = {
            key: None if isinstance(cell, float) and not math.isfinite(cell) else cell
            for key, cell in row.items()
        }
        lines.append(json.dumps(finite, allow_nan=False, ensure_ascii=False))
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
