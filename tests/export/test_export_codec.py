"""Codecs for other programs: transformers, torch.export and ONNX give the same codes and audio."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.codec.foreign.files import read_transformers
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder
from kdlight.codec.fsq import FSQ
from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import LayerPaddedCodec, SEANetDecoder, SEANetEncoder
from kdlight.commands.export import run
from kdlight.convert.encodec import convert_encodec
from kdlight.errors import InputError
from kdlight.export.traced import export_traced
from kdlight.export.transformers import bandwidths_of, export_transformers
from kdlight.storage.files import save_model
from tests.codec.foreign.models import saved

HOP = 24
CAUSAL = {"causal": True, "pad_mode": "constant"}
BOTH_SIDES = {"causal": False, "pad_mode": "reflect", "n_residual_layers": 2, "true_skip": True}


@torch.no_grad()
def make(cls: type[Codec] = Codec, bidirectional: bool = False, **kwargs: object) -> Codec:
    torch.manual_seed(0)
    shape = {"dimension": 16, "n_filters": 4, "ratios": [4, 3, 2], **kwargs}
    encoder = SEANetEncoder(**shape, bidirectional=bidirectional)
    codec = cls(encoder, ResidualVQ(16, 3, 64), SEANetDecoder(**shape), 16000, HOP)
    latents = encoder(torch.randn(1, 1, 64 * HOP))[0].T
    for level, layer in enumerate(codec.quantizer.layers):
        layer.codebook.copy_((latents - latents.mean(0) * (level > 0)) * 0.5**level)
    return codec.eval()


@pytest.mark.parametrize("shape", [CAUSAL, BOTH_SIDES])
@pytest.mark.parametrize("folded", [False, True])
@torch.no_grad()
def test_transformers_loads_it_and_agrees(
    shape: dict[str, object], folded: bool, tmp_path: Path
) -> None:
    from transformers import AutoFeatureExtractor, EncodecModel

    codec = make(LayerPaddedCodec, **shape)
    if folded:
        codec.encoder.fold_weight_norm()
        codec.decoder.fold_weight_norm()
    export_transformers(codec, tmp_path / "folder")
    model = EncodecModel.from_pretrained(tmp_path / "folder").eval()
    audio = torch.randn(2, 1, 1000)
    for n_q, bandwidth in enumerate(model.config.target_bandwidths, 1):
        codes = model.encode(audio, bandwidth=bandwidth).audio_codes
        assert torch.equal(codes[0], codec.encode(audio, n_q))
        heard = model.decode(codes, [None])[0]
        torch.testing.assert_close(heard, codec.decode(codes[0]), rtol=0, atol=1e-6)
    assert n_q == codec.n_q
    assert len(codes.unique()) > 20
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "folder")
    assert extractor.sampling_rate == codec.sample_rate
    back = convert_encodec(tmp_path / "folder")
    assert torch.equal(back.encode(audio), codec.encode(audio))


@pytest.mark.parametrize("size", [2, 64, 1024])
@pytest.mark.parametrize("sample_rate", [16000, 24000, 44100])
def test_every_number_of_levels_has_a_bandwidth(size: int, sample_rate: int) -> None:
    from transformers import EncodecConfig
    from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer

    shape = {"dimension": 2, "n_filters": 2, "ratios": [8, 5, 4, 2], "lstm": 0}
    parts = SEANetEncoder(**shape), ResidualVQ(2, 32, size), SEANetDecoder(**shape)
    bandwidths = bandwidths_of(Codec(*parts, sample_rate, 320))
    for levels in (1, 7, 32):
        config = EncodecConfig(
            target_bandwidths=bandwidths[:levels],
            codebook_size=size,
            hidden_size=2,
            sampling_rate=sample_rate,
        )
        assert config.num_quantizers == levels
    quantizer = EncodecResidualVectorQuantizer(config)
    counts = [quantizer.get_num_quantizers_for_bandwidth(value) for value in bandwidths]
    assert counts == list(range(1, 33))


def test_what_transformers_cannot_express_is_refused(tmp_path: Path) -> None:
    for reason, codec in (
        ("both ways", make(bidirectional=True)),
        ("no LSTM", make(lstm=0)),
        ("snake, not elu", make(activation="snake")),
    ):
        with pytest.raises(InputError, match=f"cannot express this codec, .*{reason}"):
            export_transformers(codec, tmp_path / "folder")
    codec = make()
    codec.quantizer = FSQ(16, [4, 4])
    with pytest.raises(InputError, match="found SEANetEncoder, FSQ, SEANetDecoder"):
        export_transformers(codec, tmp_path / "folder")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder or an earlier export"):
        export_transformers(make(), tmp_path / "other")
    with pytest.raises(InputError, match="expected a new folder or an earlier export"):
        export_traced(make(), tmp_path / "other", "torch")
    assert [path.name for path in tmp_path.rglob("*")] == ["other", "mine.txt"]
    assert not (tmp_path / "folder").exists()


def check(codec: Codec, encoded: Tensor, decoded: Tensor, audio: Tensor) -> None:
    codes = codec.encode(audio)
    assert torch.equal(encoded, codes)
    torch.testing.assert_close(decoded, codec.decode(codes), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [CAUSAL, {**BOTH_SIDES, "bidirectional": True}])
@torch.no_grad()
def test_programs_take_any_length_and_batch(shape: dict[str, object], tmp_path: Path) -> None:
    codec = make(**shape)
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    export_traced(codec, tmp_path, "torch")
    assert before.keys() == codec.state_dict().keys()
    encoder = torch.export.load(tmp_path / "encoder.pt2").module()
    decoder = torch.export.load(tmp_path / "decoder.pt2").module()
    for batch, frames in ((2, 60), (3, 8), (1, 101)):
        audio = torch.randn(batch, 1, frames * HOP)
        check(codec, encoder(audio), decoder(codec.encode(audio)), audio)
    described = json.loads((tmp_path / "codec.json").read_text())
    assert (described["least_frames"], described["least_samples"]) == (8, 8 * HOP)
    with pytest.raises(AssertionError, match=f">= {described['least_samples']}"):
        encoder(torch.randn(1, 1, 7 * HOP))


@pytest.mark.parametrize("shape", [CAUSAL, {**BOTH_SIDES, "bidirectional": True}])
def test_onnx_takes_any_length_and_batch(shape: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    codec = make(**shape)
    export_traced(codec, tmp_path, "onnx")
    encoder, decoder = (
        onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("encoder", "decoder")
    )
    for batch, frames in ((2, 60), (3, 8), (1, 101)):
        audio = torch.randn(batch, 1, frames * HOP)
        encoded = torch.from_numpy(encoder.run(None, {"audio": audio.numpy()})[0])
        codes = codec.encode(audio)
        decoded = torch.from_numpy(decoder.run(None, {"codes": codes.numpy()})[0])
        check(codec, encoded, decoded, audio)


@torch.no_grad()
def test_a_frame_rate_codec_becomes_a_program_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    codec = Codec(
        MelEncoder(16, 16000, n_fft=512, width=16, layers=1),
        ResidualVQ(16, 3, 64),
        SpectrumDecoder(16, width=16, layers=1),
        16000,
        320,
    ).eval()
    for layer in codec.quantizer.layers:
        layer.codebook.normal_()
    export_traced(codec, tmp_path / "torch", "torch")
    encoder = torch.export.load(tmp_path / "torch" / "encoder.pt2").module()
    decoder = torch.export.load(tmp_path / "torch" / "decoder.pt2").module()
    audio = torch.randn(3, 1, 17 * 320)
    check(codec, encoder(audio), decoder(codec.encode(audio)), audio)
    with pytest.raises(InputError, match="needs SEANetEncoder.*export --to torch"):
        export_transformers(codec, tmp_path / "transformers")
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    with pytest.raises(InputError, match=r"MelEncoder.*STFT.*export --to torch instead\.$"):
        export_traced(codec, tmp_path / "onnx", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["torch"]
    assert capsys.readouterr().out == ""


def test_the_verb_writes_what_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "codec.safetensors"
    save_model(make(), checkpoint)
    source = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]
    run("export", [*source, "--to", "transformers"])
    assert "EncodecModel" in (tmp_path / "out" / "config.json").read_text()
    assert "Pad the audio with silence" in (tmp_path / "out" / "README.md").read_text()
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'out'}\n")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        run("export", [*source[:3], str(checkpoint), "--to", "torch"])
    with pytest.raises(InputError, match="--to torch: a codec or a language model has no --steps"):
        run("export", [*source, "--to", "torch", "--steps", "1"])
    with pytest.raises(InputError, match="codec.*--to transformers, onnx or torch"):
        run("export", source)


def test_a_failed_export_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "codec.json").write_text("earlier")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("kdlight.export.traced.write_json", full)
    monkeypatch.setattr("kdlight.export.traced.write_program", lambda *_: None)
    with pytest.raises(OSError, match="no space left"):
        export_traced(make(), folder, "torch")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "codec.json"]
    assert (folder / "codec.json").read_text() == "earlier"


def test_what_transformers_pads_by_values_is_no_program(tmp_path: Path) -> None:
    codec = read_transformers(str(saved(tmp_path, "mimi")[1]))
    with pytest.raises(InputError, match="MimiModel pad by what they compute"):
        export_traced(codec, tmp_path / "x", "torch")
    assert not (tmp_path / "x").exists()
