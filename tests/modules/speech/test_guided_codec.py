"""Guided codecs: where the gradient goes, what is saved, weights, resume, codec to codec."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from kdlight.errors import InputError
from kdlight.guidance.guidance import Fusion, Guidance
from kdlight.guidance.objectives import Cosine, DAxis
from kdlight.guidance.sources import Pooled, Shuffled
from kdlight.guidance.speech import SpeechSource
from kdlight.storage.files import load_checkpoint
from kdlight.teachers.checkpoint import load_models
from kdlight.training.optim import Optimization
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.guidance.tiny_guidance import FourAxes, Loudness, crop, utterance
from tests.modules.speech.guided_cases import (
    HOP,
    TinyTalk,
    codec_teacher,
    codec_to_codec,
    guided,
    tiny_codec,
)


def speech(**settings: Any) -> dict[str, Guidance]:
    return {"speech": Guidance(SpeechSource(Loudness()), DAxis(), **settings)}


TALK = [utterance(index, 40 * HOP) for index in range(4)]


def batch_of(frames: int = 12) -> dict[str, Any]:
    return crop(TALK, [0, HOP, 5 * HOP, 9 * HOP], frames * HOP)


def started(module: Any) -> Any:
    """A module whose codebooks have begun, outside of training."""
    module.codec(batch_of()["audio"])
    return module


@pytest.mark.parametrize("level", [1, 2, 3])
def test_guidance_of_a_level_reaches_the_encoder_through_every_frame(level: int) -> None:
    module, batch = started(guided(speech(levels=[level]))), batch_of()
    quantized = module.codec.quantizer(module.codec.latents(batch["audio"]))
    levels = [each.detach().requires_grad_() for each in quantized.levels]
    loss = module.guide("speech", batch, quantized._replace(levels=tuple(levels)))
    loss.backward()
    grads = [each.grad for each in levels]
    assert [grad is not None for grad in grads] == [each == level for each in (1, 2, 3)]
    assert grads[level - 1].abs().sum(dim=1).gt(0).all(), "no frame is left out"
    _, quantized = module.codec(batch["audio"])
    module.zero_grad()
    module.guide("speech", batch, quantized).backward()
    for name, parameter in module.codec.encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(parameter.grad is None for parameter in module.codec.decoder.parameters())


def test_a_teacher_with_an_axis_too_many_is_refused_in_one_sentence() -> None:
    module = started(guided({"stray": Guidance(FourAxes(), Cosine())}))
    _, quantized = module.codec(batch_of()["audio"])
    sentence = r"teacher features: expected \(batch, frames, width\), found \(4, 1, 12, 3\)\."
    with pytest.raises(InputError, match=sentence):
        module.guide("stray", batch_of(), quantized)


def test_frames_without_audio_are_no_target() -> None:
    module, batch = started(guided(speech(levels=[1]))), batch_of()
    batch["lengths"] = torch.tensor([12 * HOP, 7 * HOP, HOP, 1])
    quantized = module.codec.quantizer(module.codec.latents(batch["audio"]))
    level = quantized.levels[0].detach().requires_grad_()
    module.guide("speech", batch, quantized._replace(levels=(level,))).backward()
    reached = level.grad.abs().sum(dim=1) > 0
    # One frame of a course has a cosine of 1 or -1, whatever it is.
    for row, frames in ((0, 12), (1, 7)):
        assert torch.equal(reached[row], torch.arange(12) < frames)
    assert not reached[2:, 1:].any()


def test_weights_are_by_name_and_ramped() -> None:
    module = guided(speech(start=1, ramp=1), weights={"speech": 3.0, "wave": 2.0})
    terms = {"speech": torch.tensor(1.0), "wave": torch.tensor(1.0)}
    found = []
    for iteration in range(4):
        module.iteration = iteration
        found.append(module.weighted(terms).item())
    assert found == [2.0, 3.5, 5.0, 5.0]
    assert guided(speech()).weights["speech"] == 1.0
    with pytest.raises(InputError, match="weights: expected some of .*speech, found spech"):
        guided(speech(), weights={"spech": 1.0})
    with pytest.raises(InputError, match=r"weights\.speech: expected at least 0"):
        guided(speech(), weights={"speech": -1.0})
    with pytest.raises(InputError, match=r"guidances: expected names other than .*found 'wave'"):
        guided({"wave": speech()["speech"]})
    with pytest.raises(InputError, match=r"guidances\.speech\.levels: expected 1 to 3"):
        guided(speech(levels=[4]))


def test_a_guidance_of_weight_zero_asks_nobody_and_changes_nothing() -> None:
    class Mute(Loudness):
        def states(self, audio: torch.Tensor) -> torch.Tensor:
            raise AssertionError("asked")

    silent = {"speech": Guidance(SpeechSource(Mute()), DAxis())}
    first = fit(guided(silent, weights={"speech": 0.0}, iterations=4), TinyTalk())
    second = fit(guided(speech(start=9), iterations=4), TinyTalk())
    assert not list(differing(state(first.codec), state(second.codec)))


def test_heads_learn_and_are_not_exported_and_teachers_are_not_saved(tmp_path: Path) -> None:
    module = guided(cache=tmp_path / "cache")
    before = state(module)
    fit(module, TinyTalk(), [SaveAt(tmp_path, (20,))])
    moved = set(differing(before, state(module)))
    assert {"heads.speech.layers.0.weight", "heads.text.layers.0.weight"} <= moved
    assert "speech_teacher.weight" not in moved
    checkpoint = load_checkpoint(tmp_path / "20.ckpt")
    names = {key.partition(".")[0] for key in checkpoint["state_dict"]}
    assert names == {"codec", "heads", "objectives", "_extra_state"}
    assert set(checkpoint["teachers"]) == {"speech_teacher", "units_teacher", "text_teacher"}
    ((name, codec),) = load_models(tmp_path / "20.ckpt")
    assert name == "codec"
    assert set(codec.state_dict()) == set(tiny_codec().state_dict())
    assert sum(group["params"].__len__() for group in module.optimizers().param_groups) == len(
        [p for part in (module.codec, module.heads) for p in part.parameters()]
    )


def test_muon_trains_the_heads_with_the_codec_and_resumes(tmp_path: Path) -> None:
    def make() -> Any:
        return guided(optimizer=Optimization(algorithm="muon", lr=3e-3, clip=1.0))

    module = make()
    before = state(module)
    expected = state(fit(module, TinyTalk(), [SaveAt(tmp_path, (7,))]))
    moved = set(differing(before, expected))
    assert {"heads.speech.layers.0.weight", "heads.speech.layers.0.bias"} <= moved
    resumed = fit(make(), TinyTalk(), ckpt_path=tmp_path / "7.ckpt")
    assert not list(differing(expected, state(resumed)))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_guided_run_resumes_to_the_same_bits(
    cached: bool, accumulate: int, tmp_path: Path
) -> None:
    def make() -> Any:
        return guided(cache=tmp_path / "cache" if cached else None, accumulate=accumulate)

    stops = (1, 6, 7, 8, 19)
    expected = state(fit(make(), TinyTalk(), [SaveAt(tmp_path, stops)]))
    for stop in stops:
        resumed = fit(make(), TinyTalk(), ckpt_path=tmp_path / f"{stop}.ckpt")
        assert not list(differing(expected, state(resumed))), f"stopped after {stop}"


def test_fusion_moves_the_latents_in_training_only() -> None:
    source = SpeechSource(Loudness())
    fused = guided(speech(), fusions={"whole": Fusion(Pooled(source), dropout=0.0)})
    assert "whole_teacher" in fused.frozen
    batch = batch_of()
    fused.noise.start(0, torch.device("cpu"))
    fused.eval()
    plain = fused.codec(batch["audio"], 3).audio
    assert not torch.equal(fused.code(batch).audio, plain)
    fused.fusions["whole"].dropout = 1.0
    assert torch.equal(
        fused.code(batch).quantized.codes, fused.codec(batch["audio"]).quantized.codes
    )
    trained = fit(guided(speech(), fusions={"whole": Fusion(Pooled(source))}), TinyTalk())
    assert trained.fusing["whole"].weight.grad is not None
    with pytest.raises(InputError, match="fusions: expected names of no guidance, found 'speech'"):
        guided(speech(), fusions={"speech": Fusion(source)})
    with pytest.raises(InputError, match="fusions: expected names other than wave"):
        guided(speech(), fusions={"wave": Fusion(source)})


def test_a_share_of_the_items_is_decoded_as_it_was_before_quantising() -> None:
    module = started(guided(speech(), unquantized=0.5, dropout=0.0)).eval()
    audio, kinds = batch_of()["audio"], set()
    latents = module.codec.latents(audio)
    whole = module.codec.decoder(latents)[..., : audio.shape[-1]]
    coded = module.codec(audio)
    for step in range(8):
        module.noise.start(step, torch.device("cpu"))
        found = module.code(batch_of())
        assert torch.equal(found.quantized.codes, coded.quantized.codes)
        for item in range(len(audio)):
            skipped, own = (torch.equal(found.audio[item], x[item]) for x in (whole, coded.audio))
            assert skipped != own
            kinds.add((item, skipped))
    assert len(kinds) == 2 * len(audio), "every item, now and then"
    with pytest.raises(InputError, match=r"unquantized: expected a share in \[0, 1\], found 2"):
        guided(speech(), unquantized=2)


def test_the_shuffled_control_trains_on_other_targets() -> None:
    shuffled = Shuffled(SpeechSource(Loudness()))
    shuffled.prepare(TALK)
    control = {"speech": Guidance(shuffled, DAxis())}
    one, two = (started(guided(given)) for given in (speech(), control))
    _, quantized = one.codec.eval()(batch_of()["audio"])
    losses = [each.guide("speech", batch_of(), quantized).item() for each in (one, two)]
    assert losses[0] != losses[1]


def test_data_without_utterances_are_refused() -> None:
    from tests.exactness.harness import TinyImages

    with pytest.raises(InputError, match="guidances: expected data of speech, found TinyImages"):
        fit(guided(speech()), TinyImages())


class Logged(L.Callback):
    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        module.report = lambda values: self.terms.append({k: float(v) for k, v in values.items()})


def test_a_light_codec_learns_latents_and_codes_of_its_teacher(tmp_path: Path) -> None:
    logged = Logged()
    module = codec_to_codec(tmp_path, iterations=60)
    fit(module, TinyTalk(), [logged, SaveAt(tmp_path, (60,))])
    first, last = logged.terms[0], logged.terms[-1]
    assert last["codes"] < first["codes"]
    assert last["latents"] < first["latents"]
    names = {key.partition(".")[0] for key in load_checkpoint(tmp_path / "60.ckpt")["state_dict"]}
    assert names == {"codec", "heads", "_extra_state"}


def test_a_student_may_imitate_the_teachers_voice(tmp_path: Path) -> None:
    module, batch = codec_to_codec(tmp_path, imitate=True), batch_of()
    teacher = codec_teacher(tmp_path).codec
    assert torch.equal(module.target(batch), teacher.decode(teacher.encode(batch["audio"])))
    assert torch.equal(codec_to_codec(tmp_path).target(batch), batch["audio"])


def test_a_light_codec_resumes_to_the_same_bits(tmp_path: Path) -> None:
    expected = state(fit(codec_to_codec(tmp_path), TinyTalk(), [SaveAt(tmp_path, (5,))]))
    resumed = fit(codec_to_codec(tmp_path), TinyTalk(), ckpt_path=tmp_path / "5.ckpt")
    assert not list(differing(expected, state(resumed)))


def test_a_teacher_of_another_rate_is_refused(tmp_path: Path) -> None:
    from kdlight.training.optim import Optimization
    from modules.speech.codec_to_codec import CodecToCodec

    for name, value in (("sample_rate", 8000), ("hop_length", 2 * HOP)):
        codec = tiny_codec()
        for part in (codec, codec.encoder):
            setattr(part, name, value)
        with pytest.raises(InputError, match=f"codec.{name}: expected .* of the teacher"):
            CodecToCodec(codec_teacher(tmp_path), codec, Optimization())
