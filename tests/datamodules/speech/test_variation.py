"""Varied speech: the pitch and the response that were asked for, from the seed alone."""

import math
from pathlib import Path

import pytest
import torch

from datamodules.speech.base import Crops, SpeechDataModule
from datamodules.speech.utterances import SpeechSplits, Utterance, split_speakers
from datamodules.speech.variation import FREQUENCIES, SpeechVariation
from kdlight.errors import InputError
from kdlight.guidance.sources import Pooled, Shuffled, check_places, crop_starts
from kdlight.guidance.speech import SpeechSource
from tests.guidance.tiny_guidance import Loudness

RATE, SAMPLES = 16_000, 8000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_varied_is_the_recording() -> None:
    variation = SpeechVariation(0, 0, 0)
    assert variation.source_samples(SAMPLES, torch.tensor(0.9)) == SAMPLES
    audio = 0.1 * torch.randn(1, SAMPLES, generator=seeded())
    torch.testing.assert_close(variation(audio, SAMPLES, RATE, seeded()), audio)


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.999])
def test_a_tone_is_moved_by_the_speed_and_no_more(draw: float) -> None:
    variation = SpeechVariation(0.25, 0, 0)
    taken = variation.source_samples(SAMPLES, torch.tensor(draw))
    assert math.isclose(taken / SAMPLES, 1.25 ** (2 * draw - 1), abs_tol=1e-3)
    # Whole periods in what is taken: no edge, so it is exact.
    time = torch.arange(taken, dtype=torch.float64)[None] / taken
    audio = 0.3 * torch.sin(2 * math.pi * 220 * time)
    time = torch.arange(SAMPLES, dtype=torch.float64)[None] / SAMPLES
    torch.testing.assert_close(
        variation(audio, SAMPLES, RATE, seeded()), 0.3 * torch.sin(2 * math.pi * 220 * time)
    )


def test_the_response_is_a_line_over_octaves_of_the_drawn_levels() -> None:
    variation = SpeechVariation(0, 3.0, 6.0)
    audio = 0.01 * torch.randn(1, SAMPLES, generator=seeded(1))
    drawn = seeded(7)
    level = 3.0 * torch.randn(len(FREQUENCIES), generator=drawn)
    level += 6.0 * (2 * torch.rand((), generator=drawn) - 1)
    varied = variation(audio, SAMPLES, RATE, seeded(7))
    ratio = torch.fft.rfft(varied).abs() / torch.fft.rfft(audio).abs()
    bins = (FREQUENCIES * SAMPLES / RATE).long()
    torch.testing.assert_close(20 * ratio[0, bins].log10(), level, atol=1e-3, rtol=0)
    middle = (bins[:-1] * math.sqrt(2)).round().long()
    between = (level[1:] + level[:-1]) / 2
    torch.testing.assert_close(20 * ratio[0, middle].log10(), between, atol=0.05, rtol=0)


def test_it_stays_within_the_range() -> None:
    audio = torch.ones(1, SAMPLES)
    assert SpeechVariation(0, 0, 20)(audio, SAMPLES, RATE, seeded(2)).abs().max() <= 1


def test_too_much_speed_is_refused() -> None:
    with pytest.raises(InputError, match=r"speed: expected at most 0.5, found 0.7"):
        SpeechVariation(0.7)


def test_a_varied_crop_is_of_its_seed_pass_and_recording() -> None:
    audio = 0.1 * torch.randn(1, 3 * SAMPLES, generator=seeded())
    said = [
        Utterance("long", audio, 3 * SAMPLES, RATE, "Text.", "anna"),
        Utterance("short", audio[:, :1000], 1000, RATE, "Text.", "ben"),
    ]
    crops = Crops(said, SAMPLES, 320, 5, SpeechVariation())
    first = crops[0, 0]
    assert torch.equal(first["audio"], crops[0, 0]["audio"])
    assert not torch.equal(first["audio"], crops[0, 1]["audio"])
    assert first["audio"].shape == (1, SAMPLES)
    assert int(first["lengths"]) == SAMPLES
    assert {"start", "total", "transcript"}.isdisjoint(first)
    short = crops[1, 0]
    length = int(short["lengths"])
    assert 1000 / 1.16 < length < 1160
    assert not short["audio"][0, length:].any()
    assert short["audio"][0, length - 1]


class Varied(SpeechDataModule):
    def __init__(self) -> None:
        super().__init__(2, 0.5, 2, 0, 0, RATE, 320, 0, None, SpeechVariation())

    def read(self) -> SpeechSplits:
        audio = 0.1 * torch.randn(1, SAMPLES, generator=seeded())
        return split_speakers([Utterance("a", audio, SAMPLES, RATE)], 0, "data")


def test_what_looks_up_places_refuses_it(tmp_path: Path) -> None:
    data = Varied()
    heard, kept = SpeechSource(Loudness()), SpeechSource(Loudness(), str(tmp_path))
    check_places(data, [heard, Pooled(heard), Shuffled(heard, "frames")])
    for source in (kept, Pooled(kept), Shuffled(heard), Shuffled(kept, "frames")):
        with pytest.raises(InputError, match=r"variation: expected null, for a guidance looks up"):
            check_places(data, [heard, source])
    with pytest.raises(InputError, match=r"variation: expected null where the place of a crop"):
        crop_starts(next(iter(data.train_dataloader())))
