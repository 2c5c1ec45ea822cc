"""Converted codecs give the codes and the audio of the originals."""

import json
from pathlib import Path

import pytest
import torch
from transformers import EncodecConfig
from transformers import EncodecModel as TransformersModel

from kdlight.codec.codec import Codec
from kdlight.commands.convert import run
from kdlight.convert.dmcodec import convert_dmcodec
from kdlight.convert.encodec import convert_encodec
from kdlight.convert.seanet import read_weights
from kdlight.convert.speechtokenizer import convert_speechtokenizer
from kdlight.errors import InputError
from kdlight.storage.files import load_model
from tests.convert.originals import HOP, encodec, speechtokenizer, spread, wrapped

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
LENGTHS = (1, 20, 24, 1000)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def converted(tmp_path: Path, kind: str, source: Path) -> Codec:
    """Through the verb and the file that it writes."""
    output = tmp_path / "ours.safetensors"
    run("convert", [kind, str(source), str(output)])
    model = load_model(output)
    assert isinstance(model, Codec)
    return model


@torch.no_grad()
def test_encodec_package(tmp_path: Path) -> None:
    original = encodec()
    torch.save(original.state_dict(), tmp_path / "encodec.th")
    codec = converted(tmp_path, "encodec", tmp_path / "encodec.th")
    assert (codec.sample_rate, codec.hop_length, codec.n_q, codec.causal) == (24000, HOP, 3, True)
    for length in LENGTHS:
        audio = torch.randn(2, 1, length)
        frames = original.encode(audio)
        assert torch.equal(codec.encode(audio), frames[0][0])
        torch.testing.assert_close(
            codec.decode(frames[0][0]), original.decode(frames), rtol=0, atol=1e-6
        )
    assert len(frames[0][0].unique()) > 20
    book = codec.quantizer.layers[0]
    assert book.updates == 1
    assert torch.equal(book.cluster_sum, original.quantizer.vq.layers[0]._codebook.embed_avg)


@torch.no_grad()
def test_encodec_folder_of_transformers(tmp_path: Path) -> None:
    config = EncodecConfig(
        target_bandwidths=[6.0, 18.0],
        hidden_size=16,
        num_filters=4,
        upsampling_ratios=[4, 3, 2],
        codebook_size=64,
        use_causal_conv=False,
        pad_mode="constant",
        num_residual_layers=2,
        dilation_growth_rate=3,
        use_conv_shortcut=False,
        sampling_rate=16000,
    )
    original = TransformersModel(config).eval()
    books = [layer.codebook.embed for layer in original.quantizer.layers]
    spread(books, original.encoder(torch.randn(1, 1, 64 * HOP)))
    original.save_pretrained(tmp_path / "folder")
    codec = converted(tmp_path, "encodec", tmp_path / "folder")
    assert (codec.sample_rate, codec.causal, codec.n_q) == (16000, False, len(books))
    for length in LENGTHS:
        audio = torch.randn(2, 1, length)
        codes = original.encode(audio, bandwidth=18.0).audio_codes
        assert torch.equal(codec.encode(audio)[:, : codes.shape[2]], codes[0])
        audible = original.decode(codes, [None])[0]
        torch.testing.assert_close(codec.decode(codes[0]), audible, rtol=0, atol=1e-6)
    assert len(codes.unique()) > 20


@pytest.mark.parametrize("kind", ["speechtokenizer", "dmcodec"])
@torch.no_grad()
def test_speechtokenizer_and_its_kin(kind: str, tmp_path: Path) -> None:
    original = speechtokenizer()
    assert "transform.weight" in original.state_dict()
    state = original.state_dict()
    saved = state if kind == "dmcodec" else {"generator": wrapped(state), "optim_g": {}}
    torch.save(saved, tmp_path / "model.pt")
    codec = converted(tmp_path, kind, tmp_path / "model.pt")
    assert (codec.sample_rate, codec.causal, codec.context) == (16000, False, None)
    for length in LENGTHS:
        audio = torch.randn(2, 1, length)
        codes = original.encode(audio)
        assert torch.equal(codec.encode(audio), codes.transpose(0, 1))
        torch.testing.assert_close(
            codec.decode(codes.transpose(0, 1)), original.decode(codes), rtol=0, atol=1e-6
        )
    assert len(codes.unique()) > 20


def test_the_config_beside_it_gives_the_sample_rate(tmp_path: Path) -> None:
    torch.save(speechtokenizer().state_dict(), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"sample_rate": 22050}))
    assert convert_speechtokenizer(tmp_path / "model.pt").sample_rate == 22050
    assert convert_speechtokenizer(tmp_path / "model.pt", 8000).sample_rate == 8000


def test_another_family_is_told_by_its_lstm(tmp_path: Path) -> None:
    torch.save(encodec().state_dict(), tmp_path / "encodec.th")
    torch.save(speechtokenizer().state_dict(), tmp_path / "speech.pt")
    for convert in (convert_speechtokenizer, convert_dmcodec):
        with pytest.raises(InputError, match=r"as in EnCodec: convert encodec\.$"):
            convert(tmp_path / "encodec.th")
    with pytest.raises(InputError, match=r"DM-Codec: convert speechtokenizer \(or dmcodec\)\.$"):
        convert_encodec(tmp_path / "speech.pt")


def test_stereo_and_group_normalisation_are_refused(tmp_path: Path) -> None:
    torch.save(encodec(2, "time_group_norm").state_dict(), tmp_path / "48khz.th")
    with pytest.raises(InputError, match="group normalisation"):
        convert_encodec(tmp_path / "48khz.th")
    torch.save(encodec(2).state_dict(), tmp_path / "stereo.th")
    with pytest.raises(InputError, match="one channel"):
        convert_encodec(tmp_path / "stereo.th")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "encodec", "normalize": True}))
    with pytest.raises(InputError, match="normalize: kdlight has codecs with False, found True"):
        convert_encodec(tmp_path)


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(InputError, match="no such file"):
        convert_encodec(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="damaged file or pickled objects"):
        convert_encodec(path)
    torch.save({"model": Path("an object")}, path)
    with pytest.raises(InputError, match="damaged file or pickled objects"):
        convert_encodec(path)
    torch.save({"linear.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"expected weights named encoder\.\*"):
        read_weights(path)
    torch.save({"encoder.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="expected the layers of a SEANet"):
        convert_encodec(path)
    state = encodec().state_dict()
    torch.save({name: value for name, value in state.items() if "quantizer" not in name}, path)
    with pytest.raises(InputError, match="expected codebooks"):
        convert_encodec(path)
