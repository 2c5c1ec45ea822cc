"""Authors' checkpoints give the codes and audio that the authors' own programs gave.

Weights are drawn (:mod:`tests.convert.drawn`); what their programs made of the same weights and of
the same noise lies in ``authors/``.
"""

import io
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.convert.bigcodec import convert_bigcodec
from kdlight.convert.dac import convert_dac
from kdlight.convert.mimi import convert_mimi
from kdlight.convert.wavtokenizer import convert_wavtokenizer
from kdlight.convert.xcodec import convert_xcodec
from kdlight.errors import InputError
from kdlight.storage.files import load_model, save_model
from tests.convert.drawn import drawn, sound

AUTHORS = Path(__file__).parent / "authors"


def settings_and_weights(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    known = json.loads((AUTHORS / f"{name}.json").read_text())
    kept = load_file(AUTHORS / f"{name}.safetensors")
    given = {key.removeprefix("weights."): kept[key] for key in kept if key.startswith("weights.")}
    return known["settings"], drawn(known["shapes"]) | given


def dac(folder: Path) -> Path:
    settings, weights = settings_and_weights("dac")
    torch.save({"state_dict": weights, "metadata": {"kwargs": settings}}, folder / "dac.pth")
    return folder / "dac.pth"


def mimi(folder: Path) -> Path:
    settings, weights = settings_and_weights("mimi")
    save_file(weights, folder / "mimi.safetensors")
    (folder / "mimi_config.json").write_text(json.dumps(settings))
    return folder / "mimi.safetensors"


def wavtokenizer(folder: Path) -> Path:
    weights = settings_and_weights("wavtokenizer")[1]
    torch.save({"state_dict": weights, "epoch": 3}, folder / "wavtokenizer.ckpt")
    return folder / "wavtokenizer.ckpt"


def bigcodec(folder: Path) -> Path:
    weights = settings_and_weights("bigcodec")[1]
    parts: dict[str, dict[str, Tensor]] = {"CodecEnc": {}, "generator": {}}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    torch.save(parts, folder / "bigcodec.pt")
    return folder / "bigcodec.pt"


def xcodec(folder: Path) -> Path:
    weights = settings_and_weights("xcodec")[1]
    torch.save(weights | {"log": io.BytesIO(b"bytes")}, folder / "xcodec.pth")
    return folder / "xcodec.pth"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "dac": dac,
    "mimi": mimi,
    "wavtokenizer": wavtokenizer,
    "bigcodec": bigcodec,
    "xcodec": xcodec,
}
CONVERTERS: dict[str, Callable[[Path], Codec]] = {
    "dac": convert_dac,
    "mimi": convert_mimi,
    "wavtokenizer": convert_wavtokenizer,
    "bigcodec": convert_bigcodec,
    "xcodec": convert_xcodec,
}


@pytest.mark.parametrize("name", WRITERS)
def test_codes_and_audio_are_those_of_the_authors(name: str, tmp_path: Path) -> None:
    codec = CONVERTERS[name](WRITERS[name](tmp_path))
    save_model(codec, tmp_path / "codec.safetensors")
    again = load_model(tmp_path / "codec.safetensors")
    assert isinstance(again, Codec)
    expected = load_file(AUTHORS / f"{name}.safetensors")
    for length in (int(key.removeprefix("codes_")) for key in expected if key[:6] == "codes_"):
        codes, audio = expected[f"codes_{length}"].long(), expected[f"audio_{length}"]
        for each in (codec, again):
            assert torch.equal(each.encode(sound(length)), codes)
            heard = each.decode(codes)
            # To the rounding of float32, which differs from one kind of processor to another.
            torch.testing.assert_close(heard[..., : audio.shape[-1]], audio, atol=5e-5, rtol=0)
            assert heard.shape[-1] == codes.shape[-1] * codec.hop_length


@pytest.mark.parametrize("name", WRITERS)
def test_it_can_be_trained_on(name: str, tmp_path: Path) -> None:
    codec = CONVERTERS[name](WRITERS[name](tmp_path)).train()
    output = codec(sound(1200))
    quantized = output.quantized
    loss = output.audio.square().mean() + quantized.commitment_loss + quantized.codebook_loss
    loss.backward()
    assert all(each.grad is not None for each in codec.parameters() if each.requires_grad)


def test_a_dac_that_transformers_does_not_have_is_refused(tmp_path: Path) -> None:
    settings, weights = settings_and_weights("dac")
    path = tmp_path / "dac.pth"

    def refused(why: str, content: dict[str, Any]) -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=why) as found:
            convert_dac(path)
        assert len(str(found.value).splitlines()) == 1

    def with_settings(**changed: Any) -> dict[str, Any]:
        return {"state_dict": weights, "metadata": {"kwargs": settings | changed}}

    refused("expected a checkpoint of DAC with metadata.kwargs, found none", weights)
    refused("codebook_dim: expected whole numbers above 0", with_settings(codebook_dim=[4, 8, 8]))
    refused(
        r"latent_dim: transformers has DACs of 32 alone .*, found 48", with_settings(latent_dim=48)
    )
    refused(r"decoder_rates: .*\[3, 4, 2\] alone", with_settings(decoder_rates=[4, 3, 2]))
    refused("weights do not fit the model", with_settings(n_codebooks=4))
    refused("weights by name, found none", with_settings() | {"state_dict": None})
    number = {"state_dict": weights | {"decoder.model.0.bias": 3}}
    refused(
        r"decoder\.model\.0\.bias: expected a tensor, found a whole number",
        with_settings() | number,
    )


def test_a_mimi_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = mimi(tmp_path)
    config = tmp_path / "mimi_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"seanet": {}}))
    with pytest.raises(InputError, match=r"mimi_config\.json: seanet\.dimension: expected"):
        convert_mimi(path)
    settings["transformer"]["num_heads"] = 16
    config.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="keys and values of 16 heads, found the shape"):
        convert_mimi(path)


def test_a_wavtokenizer_of_other_layers_is_refused(tmp_path: Path) -> None:
    weights = settings_and_weights("wavtokenizer")[1]
    path = tmp_path / "wavtokenizer.ckpt"

    def refused(why: str, content: dict[str, Any]) -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=why) as found:
            convert_wavtokenizer(path)
        assert len(str(found.value).splitlines()) == 1

    def without(part: str) -> dict[str, Any]:
        return {"state_dict": {name: weights[name] for name in weights if part not in name}}

    second = {
        name.replace("vq.layers.0", "vq.layers.1"): value
        for name, value in weights.items()
        if "vq.layers.0" in name
    }
    refused("weights by name, found none", {"epoch": 3})
    refused(r"expected weights named backbone\.pos_net", without("pos_net"))
    refused("expected the layers of a Vocos decoder", without("convnext"))
    refused("expected the layers of a SEANet", without("encodec.encoder"))
    refused(r"1 missing \(decoder\.prior\.1\.layers\.0\.weight", without("pos_net.1.norm1.weight"))
    refused("expected one level of codes, found 2", {"state_dict": weights | second})
    content = {"state_dict": weights, "hyper_parameters": Namespace(dim=3)}
    refused("expected a checkpoint of tensors, found a damaged file or pickled", content)


def test_a_bigcodec_of_other_layers_is_refused(tmp_path: Path) -> None:
    path = bigcodec(tmp_path)
    parts = torch.load(path)

    def refused(why: str, part: str, changed: dict[str, Tensor]) -> None:
        torch.save(parts | {part: changed}, path)
        with pytest.raises(InputError, match=why) as found:
            convert_bigcodec(path)
        assert len(str(found.value).splitlines()) == 1

    def without(part: str, left_out: str) -> tuple[str, dict[str, Tensor]]:
        return part, {name: parts[part][name] for name in parts[part] if left_out not in name}

    refused("CodecEnc: expected weights by name, found none", "CodecEnc", {})
    refused("generator: expected codebooks", *without("generator", "quantizer"))
    refused("the layers of BigCodec's encoder, found others", *without("CodecEnc", "lstm"))
    refused("the layers of BigCodec's decoder, found others", *without("generator", ".lstm"))
    refused("1 missing", *without("generator", "model.0.bias"))
    filters = {name: value + 0.1 for name, value in parts["CodecEnc"].items() if "filter" in name}
    refused("expected the filter of BigVGAN", "CodecEnc", parts["CodecEnc"] | filters)


def test_an_xcodec_of_other_layers_is_refused(tmp_path: Path) -> None:
    weights = settings_and_weights("xcodec")[1]
    path = tmp_path / "xcodec.pth"

    def refused(why: str, content: dict[str, Any]) -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=why) as found:
            convert_xcodec(path)
        assert len(str(found.value).splitlines()) == 1

    def without(part: str) -> dict[str, Any]:
        return {name: weights[name] for name in weights if part not in name}

    wavlm = "semantic_model.encoder.layers.0.attention.rel_attn_embed.weight"
    refused("expected HuBERT .*, found WavLM", weights | {wavlm: torch.zeros(1)})
    refused("expected the layers of X-Codec", without("quantizer"))
    refused("the weights of HuBERT named semantic_model", without("pos_conv_embed"))
    refused(r"expected X-Codec's weight fc_post2\.weight", without("fc_post2"))
    refused("weights do not fit the model: 1 missing", without("fc_post1.bias"))
    refused("log: expected a tensor, found text", weights | {"log": "text"})
