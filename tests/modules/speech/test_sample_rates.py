"""Codec, encoder, spectral loss and data of unlike sample rates are refused when a run starts."""

from pathlib import Path
from typing import Any

import pytest

from kdlight.codec.codec import Codec
from kdlight.errors import InputError
from kdlight.losses.spectral import LogMelLoss, MelL1L2Loss, SpectralLoss
from kdlight.training.optim import Optimization
from modules.speech.codec_training import CodecTraining
from tests.callbacks.speech_runs import HOP, RATE, FewVoices, tiny_codec, trained
from tests.exactness.harness import fit
from tests.modules.speech.guided_cases import TinyTalk, codec_to_codec, guided


@pytest.mark.parametrize("loss", [LogMelLoss(24_000, (640,), (16,)), MelL1L2Loss(24_000, (640,))])
def test_a_spectral_loss_of_another_rate(loss: SpectralLoss) -> None:
    with pytest.raises(InputError, match="spectral.sample_rate: expected 16000 .* found 24000"):
        CodecTraining(tiny_codec(), Optimization(lr=1e-3), spectral=loss)


def test_an_encoder_of_another_rate() -> None:
    parts = tiny_codec()
    codec = Codec(parts.encoder, parts.quantizer, parts.decoder, 2 * RATE, HOP)
    with pytest.raises(InputError, match="encoder.sample_rate: expected 32000 of the codec"):
        CodecTraining(codec, Optimization(lr=1e-3))


def test_data_of_another_rate_without_any_callback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.sample_rate: expected 16000 .* found 8000"):
        trained(tmp_path, [], FewVoices(rate=8000))


@pytest.mark.parametrize("method", [guided, codec_to_codec])
def test_methods_that_train_a_codec_refuse_it_too(method: Any, tmp_path: Path) -> None:
    data = TinyTalk()
    data.sample_rate = 2 * data.sample_rate
    module = method(tmp_path) if method is codec_to_codec else method()
    with pytest.raises(InputError, match="data.sample_rate: expected .* of the codec, found"):
        fit(module, data)


def test_a_loss_that_hears_any_rate() -> None:
    class Distance(SpectralLoss):
        """A user's own."""

        def forward(self, decoded: Any, audio: Any) -> Any:
            return (decoded - audio).square().mean()

    CodecTraining(tiny_codec(), Optimization(lr=1e-3), spectral=Distance())
