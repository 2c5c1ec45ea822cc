"""The speech metrics by name: what each measures, what it needs, and how to say what it was."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.speech import judges, pitch, quality, spectral
from kdlight.metrics.speech.bootstrap import Array
from kdlight.metrics.speech.packages import check_installed, installed, version
from kdlight.metrics.speech.recognisers import RATE, Recogniser, default_recogniser
from kdlight.metrics.speech.words import NORMALISATION, word_errors

Cells = dict[str, float | str]
# Columns of the rows whose sums make a figure of the whole set, and how.
Pool = tuple[tuple[str, ...], Callable[[Array], Array]]


class Utterance(NamedTuple):
    """What one row is measured on.

    Attributes:
        name: Of the utterance, the same for every system.
        reference: Original audio, (T,), in [-1, 1].
        degraded: What came out of a codec, (T,).
        sample_rate: In Hz, of both.
        transcript: What was said, if it is known.
    """

    name: str
    reference: Tensor
    degraded: Tensor
    sample_rate: int
    transcript: str | None = None


class SpeechMetric(Protocol):
    """One or several figures that are measured together.

    Attributes:
        figures: Their names.
        pools: Figures that the whole set has beside the mean of its utterances.
    """

    figures: tuple[str, ...]
    pools: dict[str, Pool]

    def measure(self, utterance: Utterance) -> Cells:
        """The figures of one utterance, and further cells of its row."""
        ...

    def provenance(self) -> dict[str, str]:
        """Package, mapping and model that the figures come from."""
        ...


Function = Callable[[Tensor, Tensor, int], float | Sequence[float]]


class SignalMetric:
    """A metric that is a function of two signals.

    Args:
        function: ``(reference, degraded, sample_rate)`` to one number for each figure.
        figures: Names of the figures.
        about: Mapping, model or definition, for the provenance.
        packages: Optional packages and their modules, the one that computes first.
    """

    def __init__(
        self,
        function: Function,
        figures: tuple[str, ...],
        about: str,
        packages: dict[str, str] | None = None,
    ) -> None:
        self.function, self.figures, self.about = function, figures, about
        self.packages = packages or {}
        self.pools: dict[str, Pool] = {}

    def measure(self, utterance: Utterance) -> Cells:
        found = self.function(utterance.reference, utterance.degraded, utterance.sample_rate)
        values = [found] if isinstance(found, float) else list(found)
        return dict(zip(self.figures, values, strict=True))

    def provenance(self) -> dict[str, str]:
        of = {name: version(name) or "unknown version" for name in self.packages}
        package = ", ".join(f"{name} {number}" for name, number in of.items())
        return {"package": package or "kdlight", "about": self.about}


SIGNAL_METRICS = {
    "pesq_wb": SignalMetric(
        quality.pesq_wb, ("pesq_wb",), "wide band at 16 kHz, mapping P.862.2", {"pesq": "pesq"}
    ),
    "pesq_nb": SignalMetric(
        quality.pesq_nb, ("pesq_nb",), "narrow band at 8 kHz, mapping P.862.1", {"pesq": "pesq"}
    ),
    "stoi": SignalMetric(quality.stoi, ("stoi",), "at 10 kHz", {"pystoi": "pystoi"}),
    "estoi": SignalMetric(quality.estoi, ("estoi",), "extended, at 10 kHz", {"pystoi": "pystoi"}),
    "visqol": SignalMetric(
        quality.visqol,
        ("visqol",),
        "speech mode at 16 kHz, lattice mapping",
        {"visqol-python": "visqol", "ai-edge-litert": "ai_edge_litert"},
    ),
    "si_sdr": SignalMetric(quality.si_sdr, ("si_sdr",), "dB, means removed, torchmetrics"),
    "log_mel_l1": SignalMetric(
        spectral.log_mel_l1, ("log_mel_l1",), "80 HTK bands, n_fft 1024, hop 256, natural log"
    ),
    "mel_distance": SignalMetric(
        spectral.mel_distance, ("mel_distance",), "DAC's: windows 32 to 2048, log10, summed"
    ),
    "stft_distance": SignalMetric(
        spectral.stft_distance, ("stft_distance",), "windows 2048 and 512, log10 power, summed"
    ),
    "f0": SignalMetric(
        pitch.pitch_errors,
        ("f0_correlation", "f0_rmse"),
        "DIO and StoneMask every 5 ms, frames voiced in both, Hz",
        {"pyworld": "pyworld"},
    ),
    "dnsmos": SignalMetric(
        judges.dnsmos,
        tuple(f"dnsmos_{name}" for name in judges.DNSMOS._fields),
        "of the degraded side alone; models of the package",
        {"speechmos": "speechmos", "librosa": "librosa", "onnxruntime": "onnxruntime"},
    ),
    "speaker_similarity": SignalMetric(
        judges.speaker_similarity,
        ("speaker_similarity",),
        "cosine of GE2E embeddings, encoder of the package",
        {"resemblyzer": "resemblyzer", "librosa": "librosa", "webrtcvad-wheels": "webrtcvad"},
    ),
}
WORD_METRICS = ("wer", "wer_reference")
NAMES = (*SIGNAL_METRICS, *WORD_METRICS)


def _error_rate(sums: Array) -> Array:
    errors, words = sums
    rate: Array = errors / words
    return rate


def _information_lost(sums: Array) -> Array:
    hits, words, heard = sums
    # A system in which nothing is heard has lost everything.
    lost: Array = np.where(heard > 0, 1 - hits**2 / (words * heard), words / words)
    return lost


class WordMetric:
    """WER and WIL of what a recogniser hears; it hears each original once, however many systems.

    ``wer`` and ``wil`` hold the recogniser's own errors too. ``wer_reference`` and
    ``wil_reference`` take what it hears in the original for the truth.

    Args:
        recogniser: Who listens.
        names: ``wer`` for errors against the transcript, ``wer_reference`` against the original.
    """

    def __init__(self, recogniser: Recogniser, names: Sequence[str]) -> None:
        self.recogniser = recogniser
        self.endings = [name.removeprefix("wer") for name in WORD_METRICS if name in names]
        self.figures = tuple(
            f"{kind}{ending}" for ending in self.endings for kind in ("wer", "wil")
        )
        self.pools: dict[str, Pool] = {}
        for ending in self.endings:
            hits, errors, words, heard = (
                f"{count}{ending}" for count in ("hits", "errors", "words", "heard")
            )
            self.pools[f"wer{ending}"] = (errors, words), _error_rate
            self.pools[f"wil{ending}"] = (hits, words, heard), _information_lost
        self._originals: dict[str, str] = {}

    def _hear(self, audio: Tensor, sample_rate: int) -> str:
        from torchaudio.functional import resample

        return self.recogniser.transcribe(resample(audio, sample_rate, RATE), RATE)

    def measure(self, utterance: Utterance) -> Cells:
        hypothesis = self._hear(utterance.degraded, utterance.sample_rate)
        cells: Cells = {"hypothesis": hypothesis}
        truths: dict[str, str | None] = {"": utterance.transcript}
        if "_reference" in self.endings:
            if utterance.name not in self._originals:
                heard = self._hear(utterance.reference, utterance.sample_rate)
                self._originals[utterance.name] = heard
            truths["_reference"] = cells["hypothesis_reference"] = self._originals[utterance.name]
        for ending in self.endings:
            truth = truths[ending]
            if truth is None:
                cells |= {f"{kind}{ending}": float("nan") for kind in ("wer", "wil")}
                continue
            found = word_errors(truth, hypothesis)
            cells |= {f"wer{ending}": found.wer, f"wil{ending}": found.wil}
            cells |= {f"{count}{ending}": value for count, value in found._asdict().items()}
        return cells

    def provenance(self) -> dict[str, str]:
        return {
            "package": f"jiwer {version('jiwer')}",
            "normalisation": NORMALISATION,
            **{f"recogniser_{key}": text for key, text in self.recogniser.provenance.items()},
        }


def available(transcripts: bool, recogniser: bool = False) -> list[str]:
    """Names of the metrics that can be measured here.

    Args:
        transcripts: Whether there are transcripts, without which there is no ``wer``.
        recogniser: Whether there is a recogniser; else one has to be installed.
    """
    found = [
        name
        for name, metric in SIGNAL_METRICS.items()
        if all(installed(module) for module in metric.packages.values())
    ]
    if installed("jiwer") and (recogniser or default_recogniser()):
        found += [name for name in WORD_METRICS if transcripts or name != "wer"]
    return found


def check_metric(name: str) -> None:
    """Complain about a metric that cannot be measured here.

    Raises:
        InputError: There is no such metric, or a package of it is missing.
    """
    if name not in NAMES:
        raise InputError(f"metrics: expected some of {', '.join(NAMES)}, found {name!r}.")
    needs = SIGNAL_METRICS[name].packages if name in SIGNAL_METRICS else {"jiwer": "jiwer"}
    for package, module in needs.items():
        check_installed(package, module, name)
