"""Authors' checkpoints give the codes and audio that the authors' own programs gave.

Weights are drawn (:mod:`tests.convert.drawn`); what their programs made of the same weights and of
the same noise lies in ``authors/``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.convert.dac import convert_dac
from kdlight.convert.mimi import convert_mimi
from kdlight.errors import InputError
from kdlight.storage.files import load_model, save_model
from tests.convert.drawn import drawn, sound

AUTHORS = Path(__file__).parent / "authors"


def settings_and_weights(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    known = json.loads((AUTHORS / f"{name}.json").read_text())
    return known["settings"], drawn(known["shapes"])


def dac(folder: Path) -> Path:
    settings, weights = settings_and_weights("dac")
    torch.save({"state_dict": weights, "metadata": {"kwargs": settings}}, folder / "dac.pth")
    return folder / "dac.pth"


def mimi(folder: Path) -> Path:
    settings, weights = settings_and_weights("mimi")
    save_file(weights, folder / "mimi.safetensors")
    (folder / "mimi_config.json").write_text(json.dumps(settings))
    return folder / "mimi.safetensors"


WRITERS: dict[str, Callable[[Path], Path]] = {"dac": dac, "mimi": mimi}
CONVERTERS: dict[str, Callable[[Path], Codec]] = {"dac": convert_dac, "mimi": convert_mimi}


@pytest.mark.parametrize("name", WRITERS)
def test_codes_and_audio_are_those_of_the_authors(name: str, tmp_path: Path) -> None:
    codec = CONVERTERS[name](WRITERS[name](tmp_path))
    save_model(codec, tmp_path / "codec.safetensors")
    again = load_model(tmp_path / "codec.safetensors")
    assert isinstance(again, Codec)
    expected = load_file(AUTHORS / f"{name}.safetensors")
    for length in (int(key.removeprefix("codes_")) for key in expected if "codes" in key):
        codes, audio = expected[f"codes_{length}"].long(), expected[f"audio_{length}"]
        for each in (codec, again):
            assert torch.equal(each.encode(sound(length)), codes)
            heard = each.decode(codes)
            torch.testing.assert_close(heard[..., : audio.shape[-1]], audio, atol=1e-5, rtol=1e-4)
            assert heard.shape[-1] == codes.shape[-1] * codec.hop_length


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
    weights["decoder.model.0.bias"] = 3  # type: ignore[assignment]
    refused(r"decoder\.model\.0\.bias: expected a tensor, found a int", with_settings())


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
