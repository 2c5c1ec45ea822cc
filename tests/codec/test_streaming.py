"""Streams: any cut of the audio gives what the whole gives."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from kdlight.codec import streaming
from kdlight.codec.codec import Codec
from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import LayerPaddedCodec, SEANetDecoder, SEANetEncoder
from kdlight.codec.streaming import (
    StreamingDecoder,
    StreamingEncoder,
    decode_stream,
    encode_stream,
)
from kdlight.errors import InputError

HOP = 24


def make(cls: type[Codec] = Codec, bidirectional: bool = False, **kwargs: object) -> Codec:
    torch.manual_seed(0)
    shape = {"dimension": 16, "n_filters": 4, "ratios": [4, 3, 2], **kwargs}
    encoder = SEANetEncoder(**shape, bidirectional=bidirectional)
    codec = cls(encoder, ResidualVQ(16, 3, 64), SEANetDecoder(**shape), 16000, HOP)
    with torch.no_grad():
        # The first codebook on the latents' scale, so that many codes are used.
        latents = encoder(torch.randn(1, 1, 64 * HOP))[0].T
        for level, layer in enumerate(codec.quantizer.layers):
            layer.codebook.copy_((latents - latents.mean(0) * (level > 0)) * 0.5**level)
    return codec.eval()


def cut(x: Tensor, largest: int) -> Iterator[Tensor]:
    """Pieces of random length, some of them empty."""
    start = 0
    while start < x.shape[-1]:
        length = int(torch.randint(0, largest, ()))
        yield x[..., start : start + length]
        start += length


@pytest.mark.parametrize("cls", [Codec, LayerPaddedCodec])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("lstm", [0, 2])
@pytest.mark.parametrize("length", [1, 23, 25, 499])
def test_a_stream_is_the_whole(cls: type[Codec], pad_mode: str, lstm: int, length: int) -> None:
    codec = make(cls, pad_mode=pad_mode, lstm=lstm, n_residual_layers=2)
    audio = torch.randn(2, 1, length)
    codes = codec.encode(audio)
    whole = codec.decode(codes)
    for largest in (3, 40, 300):
        encoder, decoder = StreamingEncoder(codec), StreamingDecoder(codec)
        found = [encoder.push(piece) for piece in cut(audio, largest)] + [encoder.flush()]
        assert torch.equal(torch.cat(found, dim=-1), codes)
        heard = [decoder.push(piece) for piece in cut(codes, largest)] + [decoder.flush()]
        torch.testing.assert_close(torch.cat(heard, dim=-1), whole, rtol=0, atol=1e-5)


def test_fewer_levels() -> None:
    codec = make()
    audio = torch.randn(1, 1, 240)
    encoder = StreamingEncoder(codec, n_q=2)
    found = [encoder.push(audio), encoder.flush()]
    assert torch.equal(torch.cat(found, dim=-1), codec.encode(audio, 2))


@pytest.mark.parametrize(("pad_mode", "first"), [("constant", HOP), ("reflect", 7 * HOP)])
def test_latency_is_when_the_first_frame_comes(pad_mode: str, first: int) -> None:
    codec = make(pad_mode=pad_mode)
    encoder, decoder = StreamingEncoder(codec), StreamingDecoder(codec)
    assert encoder.latency == decoder.latency == first
    audio = torch.randn(1, 1, 40 * HOP)
    assert encoder.push(audio[..., : first - 1]).shape[-1] == 0
    assert encoder.push(audio[..., first - 1 : first]).shape[-1] == first // HOP
    codes = codec.encode(audio)
    frames = first // HOP
    assert decoder.push(codes[..., : frames - 1]).shape[-1] == 0
    assert decoder.push(codes[..., frames - 1 : frames]).shape[-1] == first
    # From here on a frame is out as soon as it is whole.
    for frame in range(frames, 40):
        assert encoder.push(audio[..., frame * HOP : (frame + 1) * HOP]).shape[-1] == 1
        assert decoder.push(codes[..., frame : frame + 1]).shape[-1] == HOP


def test_who_looks_ahead_is_refused() -> None:
    for codec in (make(causal=False), make(bidirectional=True)):
        with pytest.raises(InputError, match="encoder: expected a causal SEANet"):
            StreamingEncoder(codec)
    with pytest.raises(InputError, match="decoder: expected a causal SEANet"):
        StreamingDecoder(make(causal=False))
    with pytest.raises(InputError, match="at least one sample"):
        StreamingEncoder(make()).flush()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("length", [1, 30, 999])
def test_files_in_pieces_are_exact_with_look_ahead_too(
    causal: bool, pad_mode: str, length: int
) -> None:
    codec = make(LayerPaddedCodec, causal=causal, pad_mode=pad_mode)
    audio = torch.randn(1, length)
    codes = codec.encode(audio[None])
    found = list(encode_stream(codec, cut(audio, 100)))
    assert torch.equal(torch.cat(found, dim=-1), codes)
    heard = torch.cat(list(decode_stream(codec, cut(codes, 7))), dim=-1)
    torch.testing.assert_close(heard, codec.decode(codes)[0], rtol=0, atol=1e-5)


class Foreign(nn.Module):
    """A part of which nothing but its context is known."""

    def __init__(self, part: SEANetEncoder | SEANetDecoder) -> None:
        super().__init__()
        self.part, self.context = part, part.context

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


@pytest.mark.parametrize("frames", [1, 19, 20, 75])
def test_windows_are_exact_where_the_context_is_bounded(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "WINDOW", 10)
    codec = make(causal=False, lstm=0)
    codec.encoder, codec.decoder = Foreign(codec.encoder), Foreign(codec.decoder)
    audio = torch.randn(1, frames * HOP - 5)
    codes = codec.encode(audio[None])
    found = list(encode_stream(codec, cut(audio, 100)))
    assert torch.equal(torch.cat(found, dim=-1), codes)
    heard = torch.cat(list(decode_stream(codec, cut(codes, 7))), dim=-1)
    torch.testing.assert_close(heard, codec.decode(codes)[0], rtol=0, atol=1e-5)


def test_windows_of_an_lstm_both_ways_forget_what_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WINDOW", 20)
    codec = make(LayerPaddedCodec, bidirectional=True, causal=False, pad_mode="reflect")
    audio = torch.randn(1, 150 * HOP)
    codes = codec.encode(audio[None])
    agreement = [
        float(
            (torch.cat(list(encode_stream(codec, [audio], margin=margin)), -1) == codes)
            .float()
            .mean()
        )
        for margin in (0, 30)
    ]
    assert agreement[0] < agreement[1]
    assert agreement[1] > 0.99


def test_nothing_is_no_audio() -> None:
    for codec in (make(), make(bidirectional=True)):
        with pytest.raises(InputError, match="found none"):
            list(encode_stream(codec, []))
