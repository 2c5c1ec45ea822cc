"""Pheme's two methods and their data: masks, teachers, and what belongs to another codec."""

import json
import warnings

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.loggers import CSVLogger

from datamodules.speech.speech_folder import SpeechFolderDataModule
from datamodules.speech.spoken_tokens import SpokenTokensDataModule
from kdlight.callbacks.speech.acoustic import AcousticReport
from kdlight.callbacks.speech.semantic import SemanticReport
from kdlight.core.noise import NoiseStream
from kdlight.errors import InputError
from kdlight.metrics.speech.spoken_codes import bigram_distance, heard_phones, phone_errors
from kdlight.networks.speech.phone_text import PHONES, read_phones
from kdlight.storage.files import save_model
from kdlight.teachers.codes import CodesOf
from tests.exactness.harness import TinyImages, fit
from tests.modules.speech.spoken_cases import (
    CODEC,
    HOP,
    RATE,
    saved_codec,
    semantic_to_acoustic,
    spoken_tokens,
    text_to_semantic,
    tiny_writer,
)


@pytest.fixture
def teacher(tmp_path):
    writer = tiny_writer(seed=8)
    writer.codec.copy_(spoken_tokens().digest())
    save_model(writer, tmp_path / "teacher.safetensors", {})
    return str(tmp_path / "teacher.safetensors")


def test_masks_are_behind_a_prompt_and_never_none():
    module = semantic_to_acoustic()
    frames = torch.tensor([40, 12, 2, 1] * 50)
    mask = torch.arange(40) < frames[:, None]
    module.noise = NoiseStream(1)
    module.noise.start(0, torch.device("cpu"))
    masked = module.masked(mask, frames)
    assert bool(masked.any(dim=1).all())
    assert not bool((masked & ~mask).any())
    assert not bool(masked[frames > 2, 0].any()), "a prompt of one frame at least"
    share = masked.sum(1) / frames
    assert 0.25 < float(share[frames == 40].mean()) < 0.45  # 2/pi of what a prompt of half leaves


def test_the_loss_starts_at_the_uniform_law_and_falls(tmp_path):
    logger = CSVLogger(tmp_path)
    module = text_to_semantic(iterations=3)
    torch.nn.init.zeros_(module.student.network.head.weight)
    torch.nn.init.zeros_(module.student.network.head.bias)
    fit(module, spoken_tokens(), logger=logger, log_every_n_steps=1)
    lines = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("train/cross_entropy")
    losses = [float(line.split(",")[place]) for line in lines[1:]]
    assert losses[0] == pytest.approx(2.197, abs=0.001)
    assert losses[-1] < losses[0]


def test_a_teacher_says_what_has_no_recording(teacher):
    data = spoken_tokens(recorded=2, teacher=teacher)
    data.setup()
    alone = spoken_tokens(recorded=2)
    alone.setup()
    rows, recorded = data._padded, alone._padded
    assert rows["codes"].shape[1] == 1
    assert len(rows["codes"]) > len(recorded["codes"])
    count = len(recorded["codes"])
    assert torch.equal(rows["codes"][:count, 0], recorded["codes"][:, 0])
    again = spoken_tokens(recorded=2, teacher=teacher, seed=5)
    again.setup()
    assert torch.equal(again._padded["codes"], rows["codes"]), "its speech is of no seed"
    mixed = spoken_tokens(recorded=2, teacher=teacher, shuffled=True)
    mixed.setup()
    assert torch.equal(mixed._padded["text"][:count], rows["text"][:count])
    assert not torch.equal(mixed._padded["codes"], rows["codes"])


def test_reports_have_their_rows(tmp_path, teacher):
    data = spoken_tokens(recorded=2, teacher=teacher)
    fit(text_to_semantic(iterations=1), data, [SemanticReport(3)], logger=CSVLogger(tmp_path / "a"))
    rows = json.loads((tmp_path / "a/lightning_logs/version_0/summary.json").read_text())
    assert [row["model"] for row in rows] == ["student", "teacher", "recordings"]
    assert all(row["phone_error"] >= 0 for row in rows)
    assert rows[2]["length_ratio"] == 1
    report = AcousticReport(2, enrolment=1, steps=3, listen=1)
    fit(
        semantic_to_acoustic(iterations=1),
        spoken_tokens(),
        [report],
        logger=CSVLogger(tmp_path / "b"),
    )
    folder = tmp_path / "b/lightning_logs/version_0"
    rows = json.loads((folder / "summary.json").read_text())
    walks = [("student", 3), ("student", 1), ("logits once", 3)]
    assert [(row["model"], row["steps"]) for row in rows] == walks
    assert all(0 <= row["level_bigram_tv"] <= 1 for row in rows)
    assert (folder / "samples" / "utterance_0_codec.flac").is_file()


def test_what_does_not_fit_is_told_before_the_work(tmp_path, teacher):
    other = saved_codec(tmp_path, seed=2)
    with pytest.raises(InputError, match=r"data: expected codes of the student's codec, found of"):
        module = fit(text_to_semantic(iterations=1), spoken_tokens())
        module.iterations = 2
        fit(module, spoken_tokens(codec=other))
    with pytest.raises(InputError, match=r"teacher.*: expected a model of the codes of .*codec_2"):
        spoken_tokens(codec=other, recorded=2, teacher=teacher).setup()
    with pytest.raises(InputError, match=r"expected a model of text to codes, found codec_1"):
        spoken_tokens(recorded=2, teacher=CODEC).setup()
    with pytest.raises(InputError, match="recorded: expected a number beside a teacher"):
        spoken_tokens(teacher=teacher)
    with pytest.raises(InputError, match="recorded: expected fewer than a speaker's"):
        spoken_tokens(recorded=9, teacher=teacher).setup()
    with pytest.raises(InputError, match="frames: expected at least"):
        spoken_tokens(frames=2).setup()
    with pytest.raises(InputError, match="data: expected 3 levels of codes, found 1"):
        fit(semantic_to_acoustic(), spoken_tokens(recorded=2, teacher=teacher))
    with pytest.raises(InputError, match="data: expected sentences as codes"):
        fit(text_to_semantic(), TinyImages())
    with pytest.raises(InputError, match="SemanticReport: expected a method that trains a writer"):
        fit(semantic_to_acoustic(), spoken_tokens(), [SemanticReport()])
    with pytest.raises(InputError, match="AcousticReport: expected a method that trains a filler"):
        fit(text_to_semantic(), spoken_tokens(), [AcousticReport()])


def test_figures_by_hand():
    labels = torch.tensor([0, 0, 5, 5, 5, 3, 5, 5, 7, 7, 0, 0, 7, 7])
    assert heard_phones(labels) == [5, 7], "one frame was not heard, nor a pause within a phone"
    assert phone_errors([5, 7], [5, 5, 6, 7]) == (1, 3)
    first = [torch.tensor([0, 1, 0, 1])]
    assert bigram_distance(first, first, 2) == 0
    assert bigram_distance(first, [torch.tensor([1, 1, 1])], 2) == 1


@pytest.fixture
def english(tmp_path):
    """Two voices that read two sentences each, a third without transcripts, of noise."""
    source = np.random.default_rng(0)
    for speaker in ("anna", "ben", "cleo"):
        (tmp_path / "said" / speaker).mkdir(parents=True)
        for number, text in enumerate(("Hello, world!", "Is it late? It is late.")):
            path = tmp_path / "said" / speaker / f"{number}.wav"
            soundfile.write(path, 0.1 * source.standard_normal(4000), RATE)
            if speaker != "cleo":
                path.with_suffix(".txt").write_text(text)
    return tmp_path


def read_aloud(folder, **settings):
    voices = SpeechFolderDataModule(
        str(folder / "said"), sample_rate=RATE, hop_length=HOP, heldout=["ben"]
    )
    return SpokenTokensDataModule(
        voices, CODEC, frames=40, batch_size=2, steps_per_epoch=2, **settings
    )


def test_english_with_transcripts_is_learnt_and_reported(english):
    pytest.importorskip("piper")
    data = read_aloud(english)
    with pytest.warns(UserWarning, match=r"2 of 4 recordings have no transcript .* cleo/0\.wav"):
        data.setup()
    assert list(data.training_recordings()) == ["anna"]
    (known,) = read_phones("hh-ah-l-ow, w-er-l-d", PHONES)
    assert data.training_recordings()["anna"][0]["text"].tolist() == known
    folder = english / "run"
    with warnings.catch_warnings(action="ignore"):
        fit(
            text_to_semantic(iterations=1),
            read_aloud(english),
            [SemanticReport(2)],
            logger=CSVLogger(folder),
        )
    rows = json.loads((folder / "lightning_logs/version_0/summary.json").read_text())
    assert [sorted(row) for row in rows] == [
        ["code_loss", "length_ratio", "model", "repeats"],
        ["length_ratio", "model", "repeats"],
    ]


def test_codes_are_kept_and_are_those_of_the_codec(english, monkeypatch):
    pytest.importorskip("piper")
    with warnings.catch_warnings(action="ignore"):
        anew, kept, again = (
            read_aloud(english, cache=cache) for cache in (None, *[str(english / "kept")] * 2)
        )
        for data in (anew, kept):
            data.setup()
        assert torch.equal(anew._padded["codes"], kept._padded["codes"])
        monkeypatch.setattr(CodesOf, "describe", lambda *_: pytest.fail("coded anew"))
        again.setup()
    assert torch.equal(again._padded["codes"], kept._padded["codes"])


def test_text_that_cannot_be_read_is_named(english):
    (english / "said/anna/1.txt").write_text("日本")
    with pytest.raises(InputError, match=r"anna/1\.wav: text: expected English, found '日'"):
        read_aloud(english).setup()
    for path in english.rglob("*.txt"):
        path.unlink()
    with pytest.raises(InputError, match="data: expected transcripts, found recordings without"):
        read_aloud(english).setup()
