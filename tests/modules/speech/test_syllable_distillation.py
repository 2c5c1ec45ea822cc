"""Syllables by self-segmentation: targets, controls, silence, and the way from a run to a file."""

import json

import numpy as np
import pytest
import soundfile
import torch

from kdlight.cli import main
from kdlight.codec.frame_rate import MelEncoder
from kdlight.codec.syllable_encoder import SyllableEncoder
from kdlight.errors import InputError
from kdlight.guidance.cuts import FrameCut, GreedyCut, RandomCut
from kdlight.guidance.speech import SpeechSource
from kdlight.storage.files import save_model
from kdlight.training.optim import Optimization
from modules.speech.syllable_distillation import SyllableDistillation
from tests.exactness.harness import fit
from tests.exactness.speech_cases import syllable_distillation, talk
from tests.guidance.tiny_guidance import HOP, RATE, Loudness


def encoder(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SyllableEncoder(MelEncoder(3, RATE, HOP, 320, 16, 8, 1, 2), 3, RATE, HOP, **kwargs)


def tones():
    """Half a second of silence, of a loud and of a soft tone, of silence; 60 ms missing inside."""
    time = torch.arange(RATE // 2) / RATE
    tone = torch.sin(2 * torch.pi * 300 * time)
    audio = torch.cat([0 * tone, tone, 0.1 * tone, 0 * tone])[None]
    audio[:, 12000:12960] = 0
    return audio


def test_silence_is_far_below_the_loudest_and_longer_than_a_closure():
    one = encoder()
    padded, lengths = one.whole(tones())
    speech = one.speech(padded, lengths)[0]
    assert torch.equal(speech.nonzero()[:, 0], torch.arange(50, 150))
    assert encoder(pause=0.0).speech(padded, lengths)[0, 75:81].sum() == 0
    # What is behind the end is never speech.
    assert encoder().speech(padded, torch.tensor([16000]))[0].nonzero().max() == 99


def test_controls_have_as_many_targets_or_one_a_frame():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, generator=generator).cumsum(0)
    speech = torch.ones(60, dtype=torch.bool)
    speech[20:30] = False
    greedy = GreedyCut()(features, speech, 0.9, 1)
    drawn = RandomCut()(features, speech, 0.9, 1)
    assert len(drawn) == len(greedy)
    assert drawn != greedy
    assert drawn == RandomCut()(features, speech, 0.9, 1)
    assert drawn != RandomCut()(features, speech, 0.9, 2)
    covered = [place for start, stop in drawn for place in range(start, stop)]
    assert covered == speech.nonzero()[:, 0].tolist()
    assert FrameCut()(features, speech, 0.9, 1) == [(place, place + 1) for place in covered]


def test_the_first_stage_has_the_teachers_segments_and_the_second_the_students():
    module = fit(syllable_distillation(), talk(12))
    assert isinstance(module, SyllableDistillation)
    assert module.stage_index == 1
    assert module.student.threshold.isfinite()
    assert module.threshold.isfinite()
    assert not torch.equal(module.student.threshold, module.threshold)
    # The teacher of the second stage is the student as the first stage left it.
    assert all(
        weight.abs().sum() > 0 for weight in module.previous.encoder.backbone.end.parameters()
    )
    assert module.student.centroids.abs().sum() > 0


def test_noise_spares_the_teacher_and_most_items():
    module = syllable_distillation()
    module.noise.start(0, torch.device("cpu"))
    audio = torch.randn(64, 1, 4 * HOP)
    heard = module.with_noise(audio)
    changed = (heard != audio).flatten(1).any(1)
    assert 0.4 < changed.float().mean() < 0.8
    added = (heard - audio)[changed].square().mean((1, 2)).sqrt()
    own = audio[changed].square().mean((1, 2)).sqrt()
    assert (added / own).min() >= 0.05 - 1e-5
    assert (added / own).max() <= 0.7 + 1e-5


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"stage_iterations": []}, "stage_iterations"),
        ({"noisy": 1.5}, "noisy"),
        ({"rate": 0.0}, "rate"),
        ({"gain": (0.5, 0.1)}, "gain"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    arguments = {"stage_iterations": [3]} | settings
    with pytest.raises(InputError, match=named):
        SyllableDistillation(encoder(), SpeechSource(Loudness()), Optimization(), **arguments)
    wide = SyllableEncoder(MelEncoder(4, RATE, HOP, 320, 16, 8, 1, 2), 4, RATE, HOP)
    with pytest.raises(InputError, match=r"student.width: expected 3"):
        SyllableDistillation(wide, SpeechSource(Loudness()), Optimization(), [3])


def test_syllables_are_written(tmp_path, capsys):
    one = encoder()
    audio = tones()
    soundfile.write(tmp_path / "a.wav", audio[0].numpy(), RATE)
    path = tmp_path / "encoder.safetensors"
    save_model(one, path)
    command = ["encode", "--segments", "--checkpoint", str(path), str(tmp_path / "a.wav")]
    command += ["--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "found one without threshold" in capsys.readouterr().err
    one.threshold.fill_(0.9)
    save_model(one, path)
    assert main(command) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "a.jsonl").read_text().splitlines()]
    held = np.load(tmp_path / "out" / "a.npz")
    assert held["embeddings"].shape == (len(rows), 3)
    assert held["times"].tolist() == [[row["start"], row["end"]] for row in rows]
    assert rows[0]["start"] == 0.5
    assert rows[-1]["end"] == 1.5
    assert [row["unit"] for row in rows] == held["units"].tolist()


def test_a_codec_is_no_encoder_of_syllables(tmp_path, capsys):
    from tests.modules.speech.guided_cases import tiny_codec

    save_model(tiny_codec(), tmp_path / "codec.safetensors")
    soundfile.write(tmp_path / "a.wav", tones()[0].numpy(), RATE)
    command = ["encode", "--segments", "--checkpoint", str(tmp_path / "codec.safetensors")]
    assert main([*command, str(tmp_path / "a.wav"), "--output", str(tmp_path / "out")]) == 2
    assert "expected an encoder of syllables, found Codec" in capsys.readouterr().err
