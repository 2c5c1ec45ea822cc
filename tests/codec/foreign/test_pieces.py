"""EnCodec of pieces gives what transformers gives of mono audio on all channels, to the bit."""

from pathlib import Path

import pytest
import torch
from transformers import EncodecFeatureExtractor

from kdlight.codec.foreign.files import read_transformers
from kdlight.codec.foreign.pieces import PiecewiseCodec
from kdlight.errors import InputError
from kdlight.export.traced import export_traced
from kdlight.teachers.codec import CodecTeacher
from kdlight.training.optim import Optimization
from modules.speech.codec_training import CodecTraining
from tests.codec.foreign.models import RATE, saved


@torch.no_grad()
def test_codes_scales_and_audio_are_those_of_transformers(tmp_path: Path) -> None:
    model, folder = saved(tmp_path, "pieces")
    codec = read_transformers(str(folder))
    assert isinstance(codec, PiecewiseCodec)
    processor = EncodecFeatureExtractor(2, RATE, chunk_length_s=0.06, overlap=0.05)
    for length in (1, 912, 913, 960, 5000):
        audio = torch.randn(2, 1, length) * torch.tensor([0.1, 0.7])[:, None, None]
        stereo = [each.expand(2, -1).numpy() for each in audio]
        inputs = processor(stereo, sampling_rate=RATE, return_tensors="pt")
        own = model.encode(**inputs, bandwidth=model.config.target_bandwidths[-1])
        codes, scales = codec.encode(audio), codec.scales(audio)
        expected = torch.cat(list(own.audio_codes), dim=-1)
        assert torch.equal(codes, expected[..., : -own.last_frame_pad_length])
        assert torch.equal(scales, torch.cat(own.audio_scales, dim=1))
        assert codes.shape[-1] == -(-length // 912) * 40 + 2
        assert torch.equal(codec.encode(audio, 2), codes[:, :2])
        heard = model.decode(
            own.audio_codes, own.audio_scales, last_frame_pad_length=own.last_frame_pad_length
        ).audio_values
        assert torch.equal(codec.decode(codes, scales), heard.mean(dim=1, keepdim=True))
    assert len(codes.unique()) > 20
    assert codec.frame_rate == pytest.approx(40 * RATE / 912)
    with pytest.raises(InputError, match=r"scales: expected \(2, 7\), found \(2, 1\)"):
        codec.decode(codes, scales[:, :1])


@torch.no_grad()
def test_stereo_is_coded_as_transformers_does(tmp_path: Path) -> None:
    model, folder = saved(tmp_path, "pieces")
    codec = read_transformers(str(folder))
    processor = EncodecFeatureExtractor(2, RATE, chunk_length_s=0.06, overlap=0.05)
    audio = torch.randn(1, 2, 2000) * torch.tensor([0.1, 0.7])[:, None]
    inputs = processor([audio[0].numpy()], sampling_rate=RATE, return_tensors="pt")
    own = model.encode(**inputs, bandwidth=model.config.target_bandwidths[-1])
    codes, scales = codec.encode(audio), codec.scales(audio)
    expected = torch.cat(list(own.audio_codes), dim=-1)
    assert torch.equal(codes, expected[..., : -own.last_frame_pad_length])
    assert torch.equal(scales, torch.cat(own.audio_scales, dim=1))
    heard = model.decode(
        own.audio_codes, own.audio_scales, last_frame_pad_length=own.last_frame_pad_length
    ).audio_values
    assert torch.equal(codec.decode_channels(codes, scales), heard)
    with pytest.raises(InputError, match=r"audio: expected \(B, 1 or 2, T\), found \(1, 3, 9\)"):
        codec.encode(torch.zeros(1, 3, 9))


def test_it_neither_trains_nor_teaches(tmp_path: Path) -> None:
    codec = read_transformers(str(saved(tmp_path, "pieces")[1]))
    for call in (
        lambda: CodecTeacher(str(tmp_path / "pieces")),
        lambda: CodecTraining(codec, Optimization()),
        lambda: export_traced(codec, tmp_path / "x", "torch"),
    ):
        with pytest.raises(InputError, match="expected a codec of audio as a whole, found one of"):
            call()
