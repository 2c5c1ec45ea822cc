"""The formant synthesiser: what it says is what its labels say, and always the same."""

import itertools
import math

import pytest
import torch

from datamodules.order import seeded
from datamodules.speech.formant import FormantDataModule
from datamodules.speech.voices.formant_phones import NAMES, NUMBERS, PHONES
from datamodules.speech.voices.formant_score import (
    Score,
    Speaker,
    Word,
    compose,
    draw_lexicon,
    draw_speaker,
    draw_words,
    smooth,
)
from datamodules.speech.voices.formant_synthesis import glottal_source, step_samples, synthesise
from kdlight.errors import InputError

RATE = 16000
SEEM_IGHT = [Word((("S", "IY", "M"),)), Word((("AY", "T"),))]
STEADY = {"breath": 0.0, "jitter": 0.0}
MAN = Speaker("man", 100.0, 1.0, **STEADY)
CHILD = Speaker("child", 200.0, 1.17, **STEADY)


def module(**arguments):
    settings = {"speakers": 4, "utterances": 2, "heldout": 1, "batch_size": 4, "lexicon": 50}
    return FormantDataModule(**{**settings, "steps_per_epoch": 3, **arguments})


@pytest.fixture(scope="module")
def data():
    return module()


def say(names, speaker, rate=RATE, steps=60):
    """Phones of ``steps`` steps each, on one pitch, (T,)."""
    numbers = torch.tensor([NUMBERS[name] for name in names]).repeat_interleave(steps)
    left = torch.arange(steps, 0, -1).repeat(len(names))
    place = 1 - (left - 0.5) / steps
    score = Score(numbers, place, left, torch.full((len(numbers),), speaker.f0), "")
    return synthesise(score, speaker, rate, seeded(0))[0]


def decibels(audio, low=0.0, high=RATE / 2):
    """Energy of a piece between two frequencies."""
    spectrum = torch.fft.rfft(audio * torch.hann_window(len(audio))).abs().square()
    frequency = torch.arange(len(spectrum)) * RATE / len(audio)
    return 10 * math.log10(float(spectrum[(frequency >= low) & (frequency < high)].sum()) + 1e-20)


def pitch(audio, rate=RATE):
    """Strongest period of a steady piece, as a frequency."""
    power = torch.fft.rfft(audio * torch.hann_window(len(audio)), 4 * len(audio)).abs().square()
    similar = torch.fft.irfft(power)[: rate // 60]
    shortest = rate // 400
    return rate / (shortest + int(similar[shortest:].argmax()))


@pytest.mark.parametrize("speaker", [MAN, CHILD], ids=lambda speaker: speaker.name)
@pytest.mark.parametrize("name", ["IY", "IH", "EH", "AE", "AA", "AO", "UW", "ER"])
def test_vowels_ring_at_their_formants_at_the_speakers_pitch(name, speaker):
    middle = say([name], speaker)[1600:4000]
    # On a high pitch the harmonics are too sparse to show peaks, so the bands are compared:
    # a formant is louder than the valley half-way to the next one.
    formants = [value * speaker.scale for value in PHONES[NUMBERS[name]].formants]
    half = max(60.0, speaker.f0 / 2)
    for lower, upper in itertools.pairwise(formants):
        if upper - lower < 500:
            continue  # one hill of two formants
        valley = (lower + upper) / 2
        assert decibels(middle, upper - half, upper + half) > decibels(
            middle, valley - half, valley + half
        ), (lower, upper)
    assert pitch(middle) == pytest.approx(speaker.f0, rel=0.01)


def test_a_mans_formants_are_peaks_of_the_harmonics():
    for name in ("IY", "AA", "AE", "UW", "ER"):
        middle = say([name], MAN)[1600:4800]  # 20 periods: harmonics fall on every 20th bin
        magnitudes = torch.fft.rfft(middle * torch.hann_window(3200)).abs()[20:800:20]
        inner = (magnitudes[1:-1] > magnitudes[:-2]) & (magnitudes[1:-1] >= magnitudes[2:])
        peaks = (inner.nonzero()[:, 0] + 2) * MAN.f0
        for formant in PHONES[NUMBERS[name]].formants[1:]:
            assert (peaks - formant).abs().min() <= 60, (name, formant)


def test_fricatives_are_noise_where_their_cavity_rings():
    hiss, hush = (say([name], MAN)[1600:4000] for name in ("S", "SH"))
    assert decibels(hiss, 5000, 8000) > decibels(hiss, 1500, 4000) + 6
    assert decibels(hush, 2000, 4500) > decibels(hush, 5500, 8000) + 6
    for voiceless, voiced in (("S", "Z"), ("F", "V"), ("SH", "ZH"), ("TH", "DH")):
        low = [decibels(say([name], MAN)[1600:4000], 60, 400) for name in (voiceless, voiced)]
        high = [decibels(say([name], MAN)[1600:4000], 4000, 8000) for name in (voiceless, voiced)]
        assert low[1] - high[1] > low[0] - high[0] + 10, (voiceless, voiced)


def test_stops_are_closed_and_then_burst():
    for name in ("P", "T", "K"):
        audio = say(["AA", name, "AA"], MAN, steps=40)
        closure, burst = audio[3800:5600], audio[5760:6400]
        vowel = audio[1600:3200]
        assert closure.square().mean() < 1e-3 * vowel.square().mean(), name
        assert burst.square().mean() > 10 * closure.square().mean(), name


def test_nasals_murmur_low():
    for name in ("M", "N", "NG"):
        audio = say(["AA", name], MAN)
        vowel, murmur = audio[1600:4000], audio[6400:8800]
        assert decibels(murmur, 60, 400) - decibels(murmur, 600, 2000) > 10
        assert decibels(vowel, 60, 400) - decibels(vowel, 600, 2000) < 0


def test_silence_is_the_rooms_noise_and_no_more(data):
    for utterance in data.all_utterances:
        audio, step = utterance.read()[0], utterance.phone_step
        silent = utterance.phones == 0
        pieces = audio.view(-1, step)
        # Five steps behind the edge: what rings, and what is smoothed, is over.
        inside = silent & silent.roll(5) & silent.roll(-5)
        inside[:5] = inside[-5:] = False
        assert inside.sum() > 10
        assert pieces[inside].abs().max() < 0.01
        vowels = torch.tensor([phone.kind == "vowel" for phone in PHONES])[utterance.phones]
        assert pieces[vowels].square().mean() > 1e4 * pieces[inside].square().mean()


def test_voiced_pitch_is_the_speakers():
    for number in range(3):
        speaker = draw_speaker(number, 0)
        audio = say(["AA"], speaker, steps=80)[2000:5200]
        assert pitch(audio) == pytest.approx(speaker.f0, rel=0.02)


def test_the_source_has_its_pitch_and_little_aliasing():
    f0 = 1000 / 3
    source = glottal_source(torch.full((24000,), f0), 0.6, RATE)
    spectrum = torch.fft.rfft(source[: 48 * 480] * torch.hann_window(48 * 480)).abs().square()
    frequency = torch.arange(len(spectrum)) * RATE / (48 * 480)
    distance = (frequency / f0 - (frequency / f0).round()).abs() * f0
    aliases = spectrum[distance > 3 * RATE / (48 * 480)].sum() / spectrum.sum()
    assert 10 * math.log10(float(aliases)) < -40
    assert abs(float(source[:24000].mean())) < 1e-3, "a derivative of what returns has no mean"


def test_a_corpus_is_always_the_same_and_depends_on_its_number_alone(data):
    torch.manual_seed(5)
    again, other = module(seed=3, segment=0.5), module(corpus=1)
    for one, same, different in zip(
        data.all_utterances, again.all_utterances, other.all_utterances, strict=True
    ):
        assert torch.equal(one.read(), same.read())
        assert torch.equal(one.phones, same.phones)
        assert one.transcript == same.transcript != different.transcript
    assert [each.name for each in data.splits.heldout] == [
        each.name for each in again.splits.heldout
    ]
    more = module(speakers=5, utterances=3)
    assert torch.equal(more.all_utterances[0].read(), data.all_utterances[0].read())


def test_utterances_have_the_documented_form(data):
    assert len(data.all_utterances) == 8
    assert len({utterance.name for utterance in data.all_utterances}) == 8
    for utterance in data.all_utterances:
        audio = utterance.read()
        assert audio.shape == (1, utterance.samples)
        assert utterance.samples == len(utterance.phones) * utterance.phone_step
        assert 0.5 < audio.abs().max() < 0.65
        said = utterance.transcript.replace("-", " ").upper().split()
        heard = [NAMES[int(number)] for number in utterance.phones.unique_consecutive()]
        once = [name for name, before in zip(said, ["", *said[:-1]], strict=True) if name != before]
        assert heard[0] == heard[-1] == "SIL"
        # A pause may part two equal phones, so both rows are compared without repetitions.
        heard = [name for name in heard if name != "SIL"]
        heard = [
            name for name, before in zip(heard, ["", *heard[:-1]], strict=True) if name != before
        ]
        assert heard == once
    assert data.phone_names == NAMES


def test_phones_have_durations_near_the_usual():
    speaker = draw_speaker(0, 0)
    score = compose(SEEM_IGHT, speaker, seeded(1))
    ends = (score.left == 1).nonzero()[:, 0] + 1
    lengths = torch.diff(ends, prepend=torch.zeros(1, dtype=torch.long))
    phones = score.phones[ends - 1]
    names = [NAMES[int(number)] for number in phones]
    assert [name for name in names if name != "SIL"] == ["S", "IY", "M", "AY", "T"]
    assert len(score.phones) == lengths.sum()
    for name, steps in zip(names, lengths.tolist(), strict=True):
        usual = PHONES[NUMBERS[name]].milliseconds / speaker.rate
        assert 0.65 * usual < 5 * steps < 2.1 * usual
    assert score.words == "s-iy-m ay-t"
    assert score.f0.mean() == pytest.approx(speaker.f0, rel=0.02)
    assert torch.equal(
        score.phones,
        compose(SEEM_IGHT, speaker, seeded(1)).phones,
    )


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_other_rates_keep_the_labels(rate):
    small = module(sample_rate=rate, hop_length=rate // 50, utterances=1)
    for utterance, reference in zip(
        small.all_utterances, module().all_utterances[::2], strict=True
    ):
        assert utterance.phone_step == step_samples(rate) == round(rate * 0.005)
        assert torch.equal(utterance.phones, reference.phones)
        assert utterance.read().isfinite().all()
    steady = say(["AA"], MAN, rate, 80)[rate // 10 : 3 * rate // 10]
    assert pitch(steady, rate) == pytest.approx(MAN.f0, rel=0.02)


def test_labels_follow_the_crops(data):
    by_name = {utterance.name: utterance for utterance in data.all_utterances}
    for batch in data.train_dataloader():
        assert batch["phones"].shape == (4, 50)
        for row, name in enumerate(batch["path"]):
            whole = by_name[name]
            start = int(batch["start"][row])
            assert start % 320 == 0
            part = whole.read()[:, start : start + RATE]
            assert torch.equal(batch["audio"][row, :, : part.shape[1]], part)
            labels = whole.phone_labels(320)[start // 320 :][:50]
            assert torch.equal(batch["phones"][row, : len(labels)], labels)
            assert not batch["phones"][row, len(labels) :].any()
    (batch, *_) = data.val_dataloader()
    assert batch["phones"].shape[1] * 320 == batch["audio"].shape[2]


def test_syllables_fill_the_words_and_lie_on_their_phones():
    utterance = module().all_utterances[0]
    phones = sum(len(word.split("-")) for word in utterance.transcript.split())
    vowels = {"vowel"}
    kinds = [PHONES[int(number)].kind for number in utterance.phones]
    assert len(utterance.syllables) <= phones
    for start, end in utterance.syllables:
        steps = [round(time * RATE / utterance.phone_step) for time in (start, end)]
        inside = kinds[steps[0] : steps[1]]
        assert "silence" not in inside
        # One nucleus each, and a boundary is where the phone changes.
        assert sum(a != b for a, b in zip(["", *inside], inside, strict=False) if b in vowels) == 1
        assert utterance.phones[steps[0] - 1] != utterance.phones[steps[0]]
    joined = {round(end, 6) for _, end in utterance.syllables}
    assert any(round(start, 6) in joined for start, _ in utterance.syllables)


def test_parallel_speech_is_the_same_reading_in_another_voice(data):
    utterance = data.all_utterances[0]
    assert torch.equal(data.parallel(utterance, utterance.speaker).read(), utterance.read())
    speakers = {f"formant{number:03d}": draw_speaker(number, 0) for number in range(4)}
    for name, speaker in speakers.items():
        other = data.parallel(utterance, name)
        assert (other.name, other.speaker) == (utterance.name, name)
        assert torch.equal(other.phones, utterance.phones)
        assert torch.equal(other.phone_ends, utterance.phone_ends)
        assert other.syllables == utterance.syllables
        assert other.samples == utterance.samples
        ratio = speaker.f0 / speakers[utterance.speaker].f0
        torch.testing.assert_close(other.f0, utterance.f0 * ratio)
        assert name == utterance.speaker or not torch.equal(other.read(), utterance.read())
    with pytest.raises(InputError, match="speaker: expected one of formant000.*found 'anna'"):
        data.parallel(utterance, "anna")


def test_ends_of_phones_part_equal_neighbours(data):
    for utterance in data.all_utterances:
        said = utterance.transcript.replace("-", " ").split()
        starts = torch.cat([torch.zeros(1, dtype=torch.long), utterance.phone_ends[:-1]])
        phones = [NAMES[int(number)].lower() for number in utterance.phones[starts]]
        assert [name for name in phones if name != "sil"] == said
        assert int(utterance.phone_ends[-1]) == len(utterance.phones) == len(utterance.f0)


def test_frequent_words_are_those_of_zipf():
    lexicon = draw_lexicon(100, 0)
    assert len({word.phones for word in lexicon}) == 100
    assert [len(word.phones) for word in lexicon] == sorted(len(word.phones) for word in lexicon)
    drawn = draw_words(lexicon, 20000, seeded(0))
    shares = torch.tensor([drawn.count(lexicon[rank]) for rank in (0, 8, 48)]) / 20000
    weights = 1 / (torch.arange(100.0) + 2)
    torch.testing.assert_close(shares, (weights / weights.sum())[[0, 8, 48]], atol=0.006, rtol=0)


def test_speakers_differ_and_small_heads_speak_high():
    speakers = [draw_speaker(number, 0) for number in range(60)]
    assert len({speaker.name for speaker in speakers}) == 60
    assert all(0.93 <= speaker.scale <= 1.22 for speaker in speakers)
    assert all(70 < speaker.f0 < 240 for speaker in speakers)
    both = torch.tensor([[speaker.scale, speaker.f0] for speaker in speakers]).T
    assert torch.corrcoef(both)[0, 1] > 0.8


def test_smoothing_keeps_what_is_constant_and_its_sum():
    assert torch.allclose(smooth(torch.full((9, 2), 3.0), 5), torch.full((9, 2), 3.0))
    impulse = torch.zeros(21, 1)
    impulse[10] = 1
    found = smooth(impulse, 5)[:, 0]
    assert found.sum() == pytest.approx(1)
    assert (found.nonzero()[:, 0] - 10).abs().max() == 2


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"speakers": 0}, "speakers: expected at least 1, found 0"),
        ({"utterances": 0}, "utterances: expected at least 1, found 0"),
        ({"words": (3, 2)}, r"words: expected fewest and most, found \[3, 2\]"),
        ({"words": (0, 2)}, "words: expected fewest and most"),
        ({"lexicon": 0}, "lexicon: expected at least 1"),
        ({"corpus": -1}, "corpus: expected at least 0"),
        ({"sample_rate": 4000}, "sample_rate: expected at least 8000, found 4000"),
    ],
)
def test_bad_arguments_name_themselves(argument, words):
    with pytest.raises(InputError, match=words):
        module(**argument)


def test_someone_must_be_left_to_train_on():
    with pytest.raises(InputError, match="formant speech: expected more than the 4 held-out"):
        module(heldout=4).setup()
