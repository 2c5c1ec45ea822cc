"""Figures that a packaged network gives: DNSMOS and the similarity of speakers."""

import functools
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torchaudio.functional import resample

from kdlight.metrics.speech.packages import require
from kdlight.metrics.speech.quality import SHORTEST, usable

RATE = 16_000


class DNSMOS(NamedTuple):
    """Predicted opinions, 1 to 5 (Reddy et al. 2022, arXiv:2110.01763, and 2021 for P.808).

    Attributes:
        ovrl: Overall, P.835.
        sig: Speech alone, P.835.
        bak: Background alone, P.835.
        p808: Overall, P.808.
    """

    ovrl: float
    sig: float
    bak: float
    p808: float


def _at_16_khz(audio: Tensor, sample_rate: int) -> Any:
    return resample(audio.detach().cpu().float(), sample_rate, RATE).clamp(-1, 1).numpy()


def dnsmos(reference: Tensor, degraded: Tensor, sample_rate: int) -> DNSMOS:
    """DNSMOS of the degraded side at 16 kHz; audio shorter than 9.01 s is repeated.

    It compares with nothing: ``reference`` is there so that all metrics are called alike. The
    models come with the package speechmos.

    Args:
        reference: Original audio, (T,).
        degraded: What came out of a codec, (T'), in [-1, 1]; samples beyond are clipped.
        sample_rate: In Hz.

    Returns:
        NaN where the degraded side is silent, not finite or shorter than 0.25 s.

    Raises:
        InputError: The package speechmos is missing.
    """
    model = require("speechmos", "speechmos.dnsmos", "dnsmos")
    if not usable(degraded, degraded, SHORTEST * sample_rate):
        return DNSMOS(*[float("nan")] * 4)
    found = model.run(_at_16_khz(degraded, sample_rate), RATE)
    return DNSMOS(*(float(found[f"{name}_mos"]) for name in DNSMOS._fields))


@functools.lru_cache(maxsize=1)
def _voice_encoder() -> Any:
    # Its weights are read with torch's default, weights_only=True.
    return require("resemblyzer", "resemblyzer", "speaker_similarity").VoiceEncoder(
        "cpu", verbose=False
    )


def speaker_similarity(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Cosine of the speaker embeddings of both sides, 0 to 1 (GE2E, Wan et al. 2018).

    The encoder and its preparation (volume, long pauses cut) are Resemblyzer's, weights included.
    Different speakers read 0.5 to 0.7 with it, so compare systems, not numbers of other encoders.

    Args:
        reference: Original audio, (T,), in [-1, 1].
        degraded: What came out of a codec, (T'), of any other length.
        sample_rate: In Hz.

    Returns:
        NaN where a side is silent, not finite, shorter than 0.25 s, or has no voice.

    Raises:
        InputError: The package resemblyzer is missing.
    """
    encoder = _voice_encoder()
    resemblyzer = require("resemblyzer", "resemblyzer", "speaker_similarity")
    if not all(usable(side, side, SHORTEST * sample_rate) for side in (reference, degraded)):
        return float("nan")
    embeddings = []
    for side in (reference, degraded):
        voice = resemblyzer.preprocess_wav(_at_16_khz(side, sample_rate), source_sr=RATE)
        if len(voice) < SHORTEST * RATE:
            return float("nan")
        embeddings.append(encoder.embed_utterance(voice))
    return float(np.dot(*embeddings))
