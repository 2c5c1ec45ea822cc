"""The speech metrics by name: what each measures, what it needs, and how to say what it was."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor
from torchaudio.functional import resample

from kdlight.errors import InputError
from kdlight.metrics.speech import judges, pitch, quality, spectral
from kdlight.metrics.speech.bootstrap import Array
from kdlight.metrics.speech.packages import check_installed, installed, version
from kdlight.metrics.speech.recognisers import RATE, Recogniser, default_recogniser
from kdlight.metrics.speech.words import NORMALISATIONS, WordErrors, word_errors

Cells = dict[str, float | str]
# Columns of the rows whose sums make a figure of the whole set, and how.
Pool = tuple[tuple[str, ...], Callable[[Array], Array]]


class Sound(NamedTuple):
    """A whole signal at a rate of its own.

    Attributes:
        audio: (T,).
        sample_rate: In Hz.
    """

    audio: Tensor
    sample_rate: int

    def at(self, sample_rate: int) -> Tensor:
        """The samples at another rate, (T',)."""
        found: Tensor = resample(self.audio, self.sample_rate, sample_rate)
        return found


class Pair(NamedTuple):
    """Two signals at one rate.

    Attributes:
        reference: Original audio, (T,), in [-1, 1].
        degraded: What came out of a codec, (T').
    """

    reference: Tensor
    degraded: Tensor


class Utterance(NamedTuple):
    """What one row is measured on; each metric takes the audio it needs.

    Attributes:
        name: Of the utterance, the same for every system.
        cut: Both sides, cut to the shorter: for metrics that compare sample with sample.
        whole: Both sides, uncut: for metrics that look at each side by itself.
        sample_rate: In Hz, of the above.
        original: What a recogniser hears of the original, whatever it is compared with.
        decoded: What it hears of the degraded side.
        transcript: What was said, if it is known.
    """

    name: str
    cut: Pair
    whole: Pair
    sample_rate: int
    original: Sound
    decoded: Sound
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
    """A metric that is a function of two signals of one length.

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
        found = self.function(*self.sides(utterance), utterance.sample_rate)
        values = [found] if isinstance(found, float) else list(found)
        return dict(zip(self.figures, values, strict=True))

    def sides(self, utterance: Utterance) -> Pair:
        """The audio that it compares."""
        return utterance.cut

    def provenance(self) -> dict[str, str]:
        of = {name: version(name) or "unknown version" for name in self.packages}
        package = ", ".join(f"{name} {number}" for name, number in of.items())
        return {"package": package or "kdlight", "about": self.about}


class WholeSignalMetric(SignalMetric):
    """A metric that looks at each of two signals by itself, so that neither is cut."""

    def sides(self, utterance: Utterance) -> Pair:
        return utterance.whole


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
        quality.visqol_lattice,
        ("visqol_lattice",),
        "speech mode at 16 kHz, lattice mapping",
        {"visqol-python": "visqol", "ai-edge-litert": "ai_edge_litert"},
    ),
    "visqol_polynomial": SignalMetric(
        quality.visqol_polynomial,
        ("visqol_polynomial",),
        "speech mode at 16 kHz, polynomial mapping scaled to 5",
        {"visqol-python": "visqol"},
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
    "dnsmos": WholeSignalMetric(
        judges.dnsmos,
        tuple(f"dnsmos_{name}" for name in judges.DNSMOS._fields),
        "of the degraded side alone; models of the package",
        {"speechmos": "speechmos", "librosa": "librosa", "onnxruntime": "onnxruntime"},
    ),
    "speaker_similarity": WholeSignalMetric(
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
    """WER, WIL and CER of what a recogniser hears in whole utterances.

    ``wer``, ``wil`` and ``cer`` hold the recogniser's own errors too; those that end in
    ``_reference`` take what it hears in the original for the truth. It hears each original once,
    so that what the original says is the same for every system.

    Args:
        recogniser: Who listens.
        names: ``wer`` for errors against the transcript, ``wer_reference`` against the original.
        normaliser: A key of :data:`~kdlight.metrics.speech.words.NORMALISATIONS`.
    """

    def __init__(self, recogniser: Recogniser, names: Sequence[str], normaliser: str) -> None:
        self.recogniser = recogniser
        self.normaliser = normaliser
        self.endings = [name.removeprefix("wer") for name in WORD_METRICS if name in names]
        self.figures = tuple(
            f"{kind}{ending}" for ending in self.endings for kind in ("wer", "wil", "cer")
        )
        self.pools: dict[str, Pool] = {}
        for ending in self.endings:
            hits, errors, words, heard, letter_errors, letters = (
                f"{count}{ending}" for count in WordErrors._fields
            )
            self.pools[f"wer{ending}"] = (errors, words), _error_rate
            self.pools[f"wil{ending}"] = (hits, words, heard), _information_lost
            self.pools[f"cer{ending}"] = (letter_errors, letters), _error_rate
        self._originals: dict[str, str] = {}

    def measure(self, utterance: Utterance) -> Cells:
        hypothesis = self.recogniser.transcribe(utterance.decoded.at(RATE), RATE)
        cells: Cells = {"hypothesis": hypothesis}
        truths: dict[str, str | None] = {"": utterance.transcript}
        if "_reference" in self.endings:
            if utterance.name not in self._originals:
                heard = self.recogniser.transcribe(utterance.original.at(RATE), RATE)
                self._originals[utterance.name] = heard
            truths["_reference"] = cells["hypothesis_reference"] = self._originals[utterance.name]
        for ending in self.endings:
            truth = truths[ending]
            if truth is None:
                cells |= {f"{kind}{ending}": float("nan") for kind in ("wer", "wil", "cer")}
                continue
            found = word_errors(truth, hypothesis, self.normaliser)
            rates = {"wer": found.wer, "wil": found.wil, "cer": found.cer}
            cells |= {f"{kind}{ending}": value for kind, value in rates.items()}
            cells |= {f"{count}{ending}": value for count, value in found._asdict().items()}
        return cells

    def provenance(self) -> dict[str, str]:
        return {
            "package": f"jiwer {version('jiwer')}",
            "normalisation": NORMALISATIONS[self.normaliser].about,
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
