"""Codecs of transformers give what transformers itself gives, to the bit."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kdlight.codec.codec import Codec
from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.codec.foreign.files import is_repository, read_transformers
from kdlight.errors import InputError
from kdlight.storage.files import load_model, save_model
from tests.codec.foreign.models import MAKERS, RATE, mimi, own_audio, own_codes, saved

LENGTHS = (1, 20, 24, 2000, 3201)


@pytest.mark.parametrize("kind", MAKERS)
def test_codes_and_audio_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model, folder = saved(tmp_path, kind)
    codec = read_transformers(str(folder))
    assert (codec.sample_rate, codec.codebook_size) == (RATE, 64)
    for length in LENGTHS:
        audio = torch.randn(2, 1, length)
        codes = codec.encode(audio)
        assert codes.shape == (2, codec.n_q, -(-length // codec.hop_length))
        filled = F.pad(audio, (0, -length % codec.hop_length))  # as the processors do
        whole = audio if kind in ("encodec", "mimi") else filled
        assert torch.equal(codes, own_codes(model, whole))
        assert torch.equal(codec.encode(audio, 2), codes[:, :2])
        heard, expected = codec.decode(codes), own_audio(model, codes)
        assert heard.shape == filled.shape
        assert torch.equal(heard[..., : expected.shape[-1]], expected)
        assert not heard[..., expected.shape[-1] :].any()
        assert torch.equal(codec.decode(codes[:, :2]), codec.decode(codec.encode(audio, 2)))
        # What training runs gives the same.
        with torch.no_grad():
            output = codec(audio)
        assert torch.equal(output.quantized.codes, codes)
        # To the rounding of float32, which differs from one kind of processor to another.
        torch.testing.assert_close(output.audio, heard[..., :length], atol=5e-5, rtol=1e-4)
    assert len(codes.unique()) > 15


@pytest.mark.parametrize("kind", MAKERS)
def test_all_but_fixed_codebooks_has_a_gradient(kind: str, tmp_path: Path) -> None:
    codec = read_transformers(str(saved(tmp_path, kind)[1])).train()
    learning = {name for name, each in codec.named_parameters() if each.requires_grad}
    output = codec(torch.randn(2, 1, 1600), torch.tensor([1, 3]))
    loss = output.audio.square().mean() + output.quantized.commitment_loss
    (loss + output.quantized.codebook_loss).backward()
    given = {name for name, each in codec.named_parameters() if each.grad is not None}
    assert given == learning
    assert not any("speech_model" in name or "unused" in name for name in learning)
    drawing = [part for part in codec.modules() if isinstance(part, torch.nn.Dropout)]
    assert not any(part.training for part in drawing)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_of_kdlight_holds_it(kind: str, tmp_path: Path) -> None:
    codec = read_transformers(str(saved(tmp_path, kind)[1]))
    save_model(codec, tmp_path / "codec.safetensors")
    again = load_model(tmp_path / "codec.safetensors")
    assert isinstance(again, Codec)
    audio = torch.randn(1, 1, 1600)
    assert torch.equal(again.encode(audio), codec.encode(audio))
    assert torch.equal(again.decode(again.encode(audio)), codec.decode(codec.encode(audio)))
    names = list(codec.state_dict())
    assert len({codec.state_dict()[name].data_ptr() for name in names}) == len(names)


def changed(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    def refused(why: str) -> None:
        with pytest.raises(InputError, match=why) as found:
            read_transformers(str(folder))
        assert len(str(found.value).splitlines()) == 1

    folder = tmp_path / "encodec"
    folder.mkdir()
    refused(r"config\.json: no such file")
    (folder / "config.json").write_text('{"model_type": "wav2vec2"}')
    refused(r"config\.json: model_type: expected encodec, dac, mimi, xcodec, found 'wav2vec2'")
    saved(tmp_path, "encodec")
    changed(folder, num_filters=8)
    refused("the EncodecModel that config.json describes, found .* of another shape")
    changed(folder, num_filters=4, target_bandwidths=[16.008])
    refused(r"EncodecModel that config\.json describes, found 4 missing, such as quantizer")
    changed(folder, target_bandwidths=[12.006], audio_channels=2)
    refused("audio_channels: expected 1 without pieces, found 2")
    changed(folder, chunk_length_s=1.0)
    refused("overlap: expected that of pieces, found None")
    changed(folder, audio_channels=1, chunk_length_s=None)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused("expected the EncodecModel that config.json describes")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    refused("pickled weights are not read")


@torch.no_grad()
def test_settings_of_no_model_are_one_sentence() -> None:
    with pytest.raises(InputError, match="expected settings of transformers' EncodecModel"):
        TransformersCodec({"model_type": "encodec", "codebook_size": 3})
    with pytest.raises(InputError, match="num_semantic_quantizers: expected 1"):
        TransformersCodec(mimi().config.to_dict() | {"num_semantic_quantizers": 2})


def test_a_hub_id_is_a_name_that_nothing_here_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_repository("kyutai/mimi")
    for name in ("codec", "runs/mine", "a/b/c", "/kyutai/mimi", "a/b.ckpt", "a/b.safetensors"):
        assert not is_repository(name)

    def offline(*args: object, **kwargs: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("kdlight.storage.hub.reachable", lambda endpoint: True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(InputError, match=r"^kyutai/mimi: no such file or folder, and no rep"):
        read_transformers("kyutai/mimi")
    with pytest.raises(InputError, match=r"^runs/mine: no such file or folder\.$"):
        read_transformers("runs/mine")
