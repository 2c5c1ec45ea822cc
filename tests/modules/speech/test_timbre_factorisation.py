"""Twins: what they are, what they teach in a linear world, and what is refused."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from datamodules.speech.formant import FormantDataModule
from kdlight.callbacks.speech.timbre import TimbreReport
from kdlight.errors import InputError
from kdlight.training.optim import Optimization
from modules.speech.timbre_factorisation import TimbreFactorisation
from tests.exactness.harness import TinyImages, fit, state
from tests.exactness.speech_cases import talk, timbre
from tests.modules.speech.timbre_cases import tiny_converter

V_C, V_S, ALPHA = 1.0, 0.5, 0.6


def weights_of(tokens, voice, target):
    """Least squares of the target on tokens and voice, (2,)."""
    x = torch.stack([tokens, voice], dim=1)
    return torch.linalg.lstsq(x, target[:, None]).solution[:, 0]


def test_in_a_linear_world_only_twins_read_the_voice_from_the_reference():
    """Tokens c + a s: self pairs leak 1 - a, twins give (v_c / (v_c + a^2 v_s), 1)."""
    c, s, other = torch.randn(3, 400_000, generator=torch.Generator().manual_seed(0)).double()
    c, s, other = c * V_C**0.5, s * V_S**0.5, other * V_S**0.5
    leak = weights_of(c + ALPHA * s, s, c + s)
    torch.testing.assert_close(leak, torch.tensor([1, 1 - ALPHA]).double(), atol=1e-6, rtol=0)
    taught = weights_of(c + ALPHA * other, s, c + s)
    known = torch.tensor([V_C / (V_C + ALPHA**2 * V_S), 1.0]).double()
    torch.testing.assert_close(taught, known, atol=5e-3, rtol=0)
    assert float(known[0]) == pytest.approx(0.8475, abs=1e-4)


def test_with_no_twins_it_is_plain_training():
    twice = state(fit(timbre(plain=1.0, stage_iterations=[10]), talk(12)))
    module = timbre(plain=1.0, stage_iterations=[10, 2])
    seen = {}

    def after() -> None:
        TimbreFactorisation.after_iteration(module)
        if module.iteration == 10:
            seen.update(state(module))

    module.after_iteration = after
    fit(module, talk(12))
    same = [key for key in twice if key.startswith("student.")]
    assert same
    assert all(torch.equal(seen[key], twice[key]) for key in same)
    assert all(torch.equal(seen[key.replace("student.", "before.", 1)], twice[key]) for key in same)


def test_a_twin_has_no_gradient_and_is_of_the_seed():
    module = timbre()
    module.trainer = SimpleNamespace(world_size=1, global_rank=0, strategy=None)
    module.before.centroids.copy_(torch.randn(4, 10))
    x0, mask = torch.randn(3, 10, 12), torch.arange(12) < torch.tensor([[12], [9], [5]])
    drawn = []
    for iteration in (3, 3, 4):
        module.noise.start(iteration, torch.device("cpu"))
        drawn.append(module.twins(x0, mask))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not drawn[0].requires_grad
    module.plain = 1.0
    module.noise.start(3, torch.device("cpu"))
    assert torch.equal(module.twins(x0, mask), x0)


def test_any_length_comes_back_and_a_prompt_stays():
    model = tiny_converter()
    for frames, length in ((1, 7), (12, 3), (30, 30)):
        mel, prompt = torch.randn(2, 10, frames), torch.randn(2, 10, length)
        mask = torch.ones(2, frames, dtype=torch.bool)
        heard = torch.ones(2, length, dtype=torch.bool)
        noise = torch.randn(2, 10, frames + length)
        made = model.converted(mel, mask, prompt, heard, noise)
        assert made.shape == mel.shape
        swapped = [each.flip(0) for each in (mel, mask, prompt, heard, noise)]
        torch.testing.assert_close(model.converted(*swapped).flip(0), made)
        both = torch.cat([prompt, mel], 2)
        prompted = torch.arange(both.shape[2]) < length
        condition = {
            "frames": model.tokens(both),
            "prompt": both,
            "prompted": prompted.expand(2, -1),
            "mask": torch.cat([heard, mask], 1),
        }
        assert torch.equal(model.draw(condition, noise)[:, :, :length], prompt)


def test_padding_changes_nothing():
    model = tiny_converter()
    mel, prompt = torch.randn(1, 10, 9), torch.randn(1, 10, 5)
    noise = torch.randn(1, 10, 14)
    mask, heard = torch.ones(1, 9, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool)
    pad = torch.nn.functional.pad
    far = [pad(each, (0, 50)) for each in (mel, mask, noise)]
    longer = model.converted(*far[:2], prompt, heard, far[2])
    torch.testing.assert_close(longer[:, :, :9], model.converted(mel, mask, prompt, heard, noise))
    assert not longer[:, :, 9:].any()


def test_the_report_has_the_model_before_its_twins(tmp_path):
    data = FormantDataModule(
        4, 2, (1, 1), 20, batch_size=4, segment=0.3, steps_per_epoch=2, heldout=2
    )
    module = TimbreFactorisation(tiny_converter(16000, 320), Optimization(), [1, 1])
    fit(module, data, [TimbreReport(2, learnt=4, shown=1)], logger=CSVLogger(tmp_path))
    folder = tmp_path / "lightning_logs/version_0"
    student, before, source = json.loads((folder / "summary.json").read_text())
    assert [each["model"] for each in (student, before, source)] == ["student", "before", "source"]
    assert source["mel_to_source"] == 0
    assert 0.1 < source["mel_to_target"] < 3
    assert student["mel_to_target"] != before["mel_to_target"]
    assert (folder / "samples" / "utterance_0_before.flac").is_file()


def test_what_cannot_be_converted_is_told():
    model = tiny_converter()
    speech = 0.1 * torch.randn(1, 4000)
    with pytest.raises(
        InputError, match=r"reference: expected 0.25 s of speech or more, found 0.10"
    ):
        model.convert(speech, speech[:, :800])
    with pytest.raises(InputError, match="source: expected speech, found silence"):
        model.convert(0 * speech, speech)
    assert model.convert(speech, speech).shape == (10, 25)
    with pytest.raises(InputError, match="stage_iterations: expected one or two"):
        timbre(stage_iterations=[1, 1, 1])
    with pytest.raises(InputError, match="data: expected 8000 Hz of the student, found 16000"):
        fit(TimbreFactorisation(tiny_converter(), Optimization(), [1]), talk(12))
    with pytest.raises(InputError, match="TimbreReport: expected a method that trains"):
        TimbreReport().setup(SimpleNamespace(datamodule=None), torch.nn.Linear(1, 1), "fit")
    with pytest.raises(InputError, match="TimbreFactorisation: expected data of speech"):
        fit(timbre(), TinyImages())
