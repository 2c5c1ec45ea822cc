"""SEANet: lengths, causality and reach in closed form, folding, files and copies."""

import copy
from pathlib import Path

import pytest
import torch

from kdlight.codec.codec import Codec
from kdlight.codec.convolution import Snake, pad
from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import LayerPaddedCodec, SEANetDecoder, SEANetEncoder
from kdlight.errors import InputError
from kdlight.storage.files import load_model, save_model

SMALL = {"dimension": 8, "n_filters": 4, "ratios": [4, 3, 2]}
HOP = 24


@pytest.mark.parametrize("length", [1, 23, 24, 25, 100])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_lengths_are_whole_frames(length: int, causal: bool, pad_mode: str) -> None:
    frames = -(-length // HOP)
    encoder = SEANetEncoder(**SMALL, causal=causal, pad_mode=pad_mode)
    decoder = SEANetDecoder(**SMALL, causal=causal, pad_mode=pad_mode)
    latents = encoder(torch.randn(2, 1, length))
    assert latents.shape == (2, 8, frames)
    assert decoder(latents).shape == (2, 1, frames * HOP)


@pytest.mark.parametrize("lstm", [0, 2])
def test_a_causal_codec_does_not_see_the_future(lstm: int) -> None:
    encoder, decoder = SEANetEncoder(**SMALL, lstm=lstm), SEANetDecoder(**SMALL, lstm=lstm)
    assert encoder.causal
    assert decoder.causal
    audio = torch.randn(1, 1, 20 * HOP, requires_grad=True)
    latents = encoder(audio)
    (gradient,) = torch.autograd.grad(latents[..., 9].sum(), audio)
    assert gradient[..., 10 * HOP :].abs().max() == 0
    assert gradient[..., 10 * HOP - 1].abs() > 0
    latents = latents.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(latents)[..., : 10 * HOP].sum(), latents)
    assert gradient[..., 10:].abs().max() == 0
    assert gradient[..., 9].abs().max() > 0


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("units", [1, 2])
def test_context_is_what_a_frame_depends_on(causal: bool, units: int) -> None:
    shape = {**SMALL, "lstm": 0, "causal": causal, "n_residual_layers": units}
    encoder, decoder = SEANetEncoder(**shape), SEANetDecoder(**shape)
    assert encoder.context is not None
    assert decoder.context is not None
    audio = torch.randn(1, 1, 60 * HOP, requires_grad=True)
    latents = encoder(audio)
    (gradient,) = torch.autograd.grad(latents[..., 30].sum(), audio)
    used = gradient.view(60, HOP).abs().sum(dim=1).nonzero().flatten()
    assert encoder.context == max(30 - int(used[0]), int(used[-1]) - 30)
    latents = latents.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(latents)[..., 30 * HOP : 31 * HOP].sum(), latents)
    used = gradient.abs().sum(dim=(0, 1)).nonzero().flatten()
    assert decoder.context == max(30 - int(used[0]), int(used[-1]) - 30)
    assert Codec(encoder, ResidualVQ(8, 1, 4), decoder, 16000, HOP).context == (
        encoder.context + decoder.context
    )


def test_an_lstm_has_no_bound_and_both_ways_is_not_causal() -> None:
    assert SEANetEncoder(**SMALL).context is None
    both_ways = SEANetEncoder(**SMALL, bidirectional=True)
    assert not both_ways.causal
    assert both_ways(torch.randn(1, 1, 48)).shape == (1, 8, 2)


@pytest.mark.parametrize("part", [SEANetEncoder, SEANetDecoder])
def test_folding_keeps_the_outputs_and_the_copy_it_came_from(
    part: type[SEANetEncoder], tmp_path: Path
) -> None:
    original = part(**SMALL, activation="snake").eval()
    for name, weight in original.named_parameters():
        if name.endswith("original0"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    x = torch.randn(2, 1 if part is SEANetEncoder else 8, 240)
    before = original(x)
    folded = copy.deepcopy(original)
    folded.fold_weight_norm()
    assert not any("parametrizations" in name for name in folded.state_dict())
    torch.testing.assert_close(folded(x), before, rtol=0, atol=1e-6)
    torch.testing.assert_close(original(x), before, rtol=0, atol=0)
    for model in (original, folded):
        save_model(model, tmp_path / "part.safetensors")
        assert torch.equal(load_model(tmp_path / "part.safetensors")(x), model(x))


def test_two_ways_to_pad_a_last_frame_agree_on_whole_frames() -> None:
    parts = (SEANetEncoder(**SMALL), ResidualVQ(8, 2, 16), SEANetDecoder(**SMALL), 16000, HOP)
    silence, layers = Codec(*parts).eval(), LayerPaddedCodec(*parts).eval()
    audio = torch.randn(1, 1, 10 * HOP)
    assert torch.equal(silence.encode(audio), layers.encode(audio))
    cut = silence.latents(audio[..., :-5]), layers.latents(audio[..., :-5])
    torch.testing.assert_close(cut[0][..., :9], cut[1][..., :9], rtol=1e-5, atol=1e-6)
    assert not torch.equal(cut[0], cut[1])
    with pytest.raises(InputError, match=r"expected \(B, 1, T\)"):
        layers.encode(audio[0])


def test_snake_and_padding_in_closed_form() -> None:
    snake = Snake(1)
    torch.nn.init.constant_(snake.alpha, 2.0)
    x = torch.tensor([[[-1.0, 0.0, 0.3]]])
    torch.testing.assert_close(snake(x), x + (2 * x).sin() ** 2 / 2)
    ramp = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert pad(ramp, 2, 1, "reflect").flatten().tolist() == [3, 2, 1, 2, 3, 2]
    # Too short to reflect: zeros stand in for what is not there, and are cut off again.
    assert pad(ramp, 4, 0, "reflect").flatten().tolist() == [0, 0, 3, 2, 1, 2, 3]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("activation", "relu"),
        ("norm", "batch_norm"),
        ("pad_mode", "circular"),
        ("ratios", []),
        ("compress", 3),
    ],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(InputError, match=argument):
        SEANetEncoder(**{**SMALL, argument: value})
