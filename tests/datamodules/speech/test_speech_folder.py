"""Folders of speech: speakers, transcripts, and files that cannot be used."""

import math
import warnings

import numpy as np
import pytest
import soundfile
import torch

from datamodules.speech.recordings import Recording, usable
from datamodules.speech.speech_folder import SpeechFolderDataModule
from datamodules.speech.utterances import Utterance, read_part, split_speakers
from kdlight.errors import InputError
from kdlight.storage.audio import read_audio

RATE, HOP = 8000, 80


def noise(frames, seed=0):
    return 0.1 * torch.randn(frames, generator=torch.Generator().manual_seed(seed))


def save(path, samples, rate=RATE, **kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), np.asarray(samples), rate, **{"subtype": "FLOAT", **kind})
    return path


def flac(path, samples):
    return save(path, samples, subtype="PCM_16")


def module(path, **arguments):
    settings = {"batch_size": 2, "segment": 0.1, "sample_rate": RATE, "hop_length": HOP}
    return SpeechFolderDataModule(str(path), **{**settings, **arguments})


def read(data):
    """All utterances, and the warnings that reading them gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits = data.splits
    return splits.training + splits.heldout, [str(warning.message) for warning in caught]


def test_speakers_and_transcripts_of_a_folder(tmp_path):
    for number, name in enumerate(("anna/1.wav", "deep/bert/2.wav", "1034-121119-0000.wav")):
        save(tmp_path / name, noise(1000, number))
    save(tmp_path / "carl-first.wav", noise(1000))
    save(tmp_path / "any" / "19-198-0001.wav", noise(1000))
    (tmp_path / "anna" / "1.txt").write_text("\ufeff  Good\n morning. ".lstrip("\ufeff"))
    utterances, said = read(module(tmp_path, heldout=0))
    assert not said
    speakers = {utterance.name: utterance.speaker for utterance in utterances}
    assert speakers == {
        "1034-121119-0000.wav": "1034",
        "anna/1.wav": "anna",
        "any/19-198-0001.wav": "19",
        "carl-first.wav": "carl",
        "deep/bert/2.wav": "bert",
    }
    transcripts = {utterance.name: utterance.transcript for utterance in utterances}
    assert transcripts.pop("anna/1.wav") == "Good morning."
    assert set(transcripts.values()) == {""}


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_bad_files_are_left_out_and_listed_once_in_one_warning(tmp_path, cache_mb):
    save(tmp_path / "a" / "good.wav", noise(1000))
    save(tmp_path / "b" / "good.flac", noise(20000), subtype="PCM_16")
    cut = flac(tmp_path / "a" / "cut.flac", noise(20000))
    cut.write_bytes(cut.read_bytes()[:-9000])
    tiny = flac(tmp_path / "a" / "header.flac", noise(20000))
    tiny.write_bytes(tiny.read_bytes()[:60])
    (tmp_path / "a" / "empty.wav").touch()
    (tmp_path / "a" / "phone.m4a").touch()
    (tmp_path / "a" / "infinite.mp3").write_text("no audio, but a name with a word in it")
    save(tmp_path / "a" / "nothing.wav", torch.zeros(0))
    save(tmp_path / "a" / "one.wav", torch.ones(1))
    save(tmp_path / "b" / "short.wav", noise(HOP - 1))
    save(tmp_path / "b" / "silent.wav", torch.zeros(30000))
    hole = noise(1000)
    hole[500] = math.nan
    save(tmp_path / "b" / "nan.wav", hole)
    utterances, said = read(module(tmp_path, heldout=0, cache_mb=cache_mb))
    assert [utterance.name for utterance in utterances] == ["a/good.wav", "b/good.flac"]
    assert said == [
        f"{tmp_path}: 10 of 12 files are left out: "
        "4 damaged (a/cut.flac, a/empty.wav, a/header.flac, a/infinite.mp3), "
        "1 in a format that libsndfile does not read (a/phone.m4a), "
        "1 not finite (b/nan.wav), "
        f"3 shorter than {HOP} samples (a/nothing.wav, a/one.wav, b/short.wav), "
        "1 silent (b/silent.wav)."
    ]


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_integers_in_floating_point_stop_a_run_before_it_starts(tmp_path, cache_mb):
    save(tmp_path / "a" / "good.wav", noise(1000))
    save(tmp_path / "b" / "loud.wav", noise(20000) * 32768)
    with pytest.raises(InputError, match=r"loud\.wav: expected samples in \[-1, 1\], found -\d+"):
        module(tmp_path, cache_mb=cache_mb).setup()


def test_a_long_list_is_cut_and_channels_are_told_of(tmp_path):
    for number in range(8):
        save(tmp_path / "a" / f"{number}.wav", torch.zeros(1000))
    save(tmp_path / "a" / "stereo.wav", torch.stack([noise(1000), noise(1000, 1)], 1))
    save(tmp_path / "b" / "mono.wav", noise(1000))
    (mixed, _), said = read(module(tmp_path, heldout=0))
    torch.testing.assert_close(mixed.read()[0], (noise(1000) + noise(1000, 1)) / 2)
    assert said == [
        f"{tmp_path}: 8 of 10 files are left out: 8 silent (a/0.wav, a/1.wav, a/2.wav, a/3.wav, "
        "a/4.wav, ...); 1 of 10 files have several channels, which are averaged (a/stereo.wav)."
    ]


def test_a_file_that_starts_silent_is_not_silent(tmp_path):
    late = torch.zeros(40000)
    late[30000:30100] = 0.1  # in none of the places that are looked at
    save(tmp_path / "late.wav", late)
    recordings = [Recording(tmp_path / "late.wav", "late.wav")]
    assert len(usable(recordings, RATE, HOP, 0, "data")) == 1


def test_a_folder_without_a_usable_file_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    save(tmp_path / "b.wav", torch.zeros(1000))
    with pytest.raises(InputError) as refusal:
        module(tmp_path).setup()
    assert str(refusal.value) == (
        f"{tmp_path}: expected audio that can be used, found none: "
        "2 of 2 files are left out: 1 damaged (a.wav), 1 silent (b.wav)."
    )


@pytest.mark.parametrize("cache_mb", [0, 64])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS")]
)
def test_a_part_equals_the_same_part_of_the_whole(tmp_path, rate, suffix, subtype, cache_mb):
    path = save(tmp_path / "a" / f"1.{suffix}", noise(3 * rate), rate, subtype=subtype)
    ((utterance,), _) = read(module(tmp_path, heldout=0, cache_mb=cache_mb))
    assert isinstance(utterance.source, torch.Tensor) is (cache_mb > 0)
    assert utterance.samples == 3 * RATE
    whole = read_audio(path, RATE)
    assert whole.shape == (1, 3 * RATE)
    for start, samples in ((0, 800), (801, 1), (7 * HOP, 4000), (3 * RATE - 80, 800), (0, None)):
        part = utterance.read(start, samples)
        stop = None if samples is None else start + samples
        torch.testing.assert_close(part, whole[:, start:stop], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rate", "frames"), [(44100, 1), (44100, 44099), (11025, 5001), (48000, 7)]
)
def test_parts_of_any_length_have_the_length_they_should(tmp_path, rate, frames):
    path = save(tmp_path / "a.wav", noise(frames), rate)
    whole = read_audio(path, 24000)
    for start in {0, whole.shape[1] // 3, whole.shape[1] - 1}:
        part = read_part(path, 24000, start, whole.shape[1])
        torch.testing.assert_close(part, whole[:, start:], atol=1e-6, rtol=0)


def test_the_cache_holds_as_much_as_it_may(tmp_path):
    for number in range(3):
        save(tmp_path / "a" / f"{number}.wav", noise(100_000, number))  # 0.38 MiB
    utterances, _ = read(module(tmp_path, heldout=0, cache_mb=1))
    assert [isinstance(each.source, torch.Tensor) for each in utterances] == [True, True, False]


def voices(names):
    return [
        Utterance(f"{name}{n}", noise(800)[None], 800, RATE, "", name)
        for name in names
        for n in (0, 1)
    ]


def test_the_split_is_by_speaker_and_fixed_whatever_the_seed(tmp_path):
    for name in "abcdefgh":
        for number in range(3):
            save(tmp_path / name / f"{number}.wav", noise(1000, number))
    first, second = (module(tmp_path, heldout=3, seed=seed).splits for seed in (0, 7))
    for one, other in zip(first, second, strict=True):
        assert [utterance.name for utterance in one] == [utterance.name for utterance in other]
    training = {utterance.speaker for utterance in first.training}
    held = [utterance.speaker for utterance in first.heldout]
    assert len(training) == 5
    assert not training & set(held)
    assert set(held) | training == set("abcdefgh")
    assert held == 3 * held[:3], "speakers take turns"


def test_another_speaker_hardly_changes_who_is_held_out():
    held = [
        {utterance.speaker for utterance in split_speakers(voices(names), 3, "data").heldout}
        for names in ("abcdefgh", "abcdefghi", "hgfedcba")
    ]
    assert held[0] == held[2]
    assert len(held[0] & held[1]) >= 2


def test_speakers_to_hold_out_may_be_named():
    splits = split_speakers(voices("abcd"), ["d", "b"], "data")
    assert [utterance.name for utterance in splits.heldout] == ["b0", "d0", "b1", "d1"]
    assert split_speakers(voices("ab"), 0, "data").heldout == []


def test_speakers_whose_names_are_numbers() -> None:
    splits = split_speakers(voices(["1034", "12"]), [1034], "data")
    assert {utterance.speaker for utterance in splits.training} == {"12"}


@pytest.mark.parametrize(
    ("heldout", "words"),
    [
        (2, "data: expected more than the 2 held-out speakers, found 2 in all"),
        (-1, "heldout: expected at least 0 speakers, found -1"),
        (["a", "b"], "expected more than the 2 held-out speakers"),
        (["x"], r"expected speakers of the data \(a, b, \.\.\.\), found 'x'"),
    ],
)
def test_a_split_that_cannot_be_is_refused(heldout, words):
    with pytest.raises(InputError, match=words):
        split_speakers(voices("ab"), heldout, "data")


def test_bad_folders_and_texts_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected a folder or a manifest, found nothing"):
        module(tmp_path / "nowhere").setup()
    with pytest.raises(InputError, match=r"expected audio files \(\.wav"):
        module(tmp_path).setup()
    save(tmp_path / "a.wav", noise(1000))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a\.txt: expected text in UTF-8"):
        module(tmp_path).setup()
    # What is there and is no text would be passed over without a word.
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"a\.txt: a link to nothing"):
        module(tmp_path).setup()
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match=r"a\.txt: expected a file, found a folder"):
        module(tmp_path).setup()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            {"segment": 0.009},
            r"segment: expected at least one frame of 80 samples at 8000 Hz, found",
        ),
        ({"segment": math.nan}, "segment: expected a finite number"),
        ({"segment": math.inf}, "segment: expected a finite number"),
        ({"heldout_seconds": 0.0}, "heldout_seconds: expected at least one frame"),
        ({"batch_size": 0}, "batch_size: expected a whole number above 0, found 0"),
        ({"sample_rate": 0}, "sample_rate: expected a whole number from 1 to 1000000, found 0"),
        ({"sample_rate": 10**9}, "sample_rate: expected a whole number from 1 to 1000000"),
        ({"hop_length": -1}, "hop_length: expected a whole number above 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch: expected a whole number above 0"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
    ],
)
def test_bad_numbers_name_themselves(tmp_path, argument, words):
    with pytest.raises(InputError, match=words):
        module(tmp_path, **argument)


def test_a_negative_cache_is_refused(tmp_path):
    save(tmp_path / "a.wav", noise(1000))
    with pytest.raises(InputError, match="cache_mb: expected at least 0, found -1"):
        module(tmp_path, cache_mb=-1).setup()
