"""Published masked language models give the logits that their authors' programs gave.

Weights are drawn (:mod:`tests.convert.drawn`); what the programs made of them lies in ``authors/``.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdlight.cli import main
from kdlight.convert.mdlm import convert_mdlm
from kdlight.convert.smdm import convert_smdm
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.storage.files import load_model
from tests.convert.drawn import drawn

AUTHORS = Path(__file__).parent / "authors"


def settings_and_weights(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    known = json.loads((AUTHORS / f"{name}.json").read_text())
    return known["settings"], drawn(known["shapes"])


def mdlm(folder: Path, **changed: Any) -> Path:
    settings, weights = settings_and_weights("mdlm")
    (folder / "config.json").write_text(json.dumps(settings | changed))
    save_file(weights, folder / "model.safetensors")
    return folder


def smdm(folder: Path) -> Path:
    save_file(settings_and_weights("smdm")[1], folder / "mdm.safetensors")
    return folder / "mdm.safetensors"


def logits(generator: Any, tokens: Tensor) -> Tensor:
    assert isinstance(generator, TokenGenerator)
    assert isinstance(generator.denoiser, MaskedDenoiser)
    with torch.no_grad():
        return generator.eval().denoiser.logits(tokens)


def test_mdlm_has_the_logits_of_its_authors_program(tmp_path: Path) -> None:
    kept = load_file(AUTHORS / "mdlm.safetensors")
    model = convert_mdlm(mdlm(tmp_path))
    torch.testing.assert_close(logits(model, kept["tokens"]), kept["logits"], rtol=0, atol=5e-6)


def test_smdm_has_the_logits_of_its_authors_program(tmp_path: Path) -> None:
    kept = load_file(AUTHORS / "smdm.safetensors")
    model = convert_smdm(smdm(tmp_path), heads=2)
    torch.testing.assert_close(logits(model, kept["tokens"]), kept["logits"], rtol=0, atol=5e-6)


def test_the_converted_file_is_loaded_and_writes_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    words = {f"w{index}": index for index in range(19)}
    own = Tokenizer(models.WordLevel(words, unk_token="w0"))
    own.save(str(tmp_path / "tokenizer.json"))
    output = tmp_path / "mdlm.safetensors"
    tokenizer = ["--tokenizer", str(tmp_path / "tokenizer.json")]
    assert main(["convert", "mdlm", str(mdlm(tmp_path)), str(output), *tokenizer]) == 0
    kept = load_file(AUTHORS / "mdlm.safetensors")
    generator = load_model(output).generator
    torch.testing.assert_close(logits(generator, kept["tokens"]), kept["logits"], rtol=0, atol=5e-6)
    texts = tmp_path / "texts.jsonl"
    words_given = ["generate", "--checkpoint", str(output), "--num-samples", "2", "--steps", "3"]
    assert main([*words_given, "--prompt", "w3", "--output", str(texts)]) == 0
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    assert [row["tokens"][0] for row in rows] == [3, 3]


def test_a_network_that_looks_at_the_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="time_conditioning false"):
        convert_mdlm(mdlm(tmp_path, time_conditioning=True))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = mdlm(tmp_path)
    _, weights = settings_and_weights("mdlm")
    save_file({"backbone.sigma_map.mlp.0.weight": torch.zeros(3, 3)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="expected the weights of MDLM's network"):
        convert_mdlm(folder)
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"transformer\.wte"):
        convert_smdm(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="half a divisor of 32"):
        convert_smdm(smdm(tmp_path), heads=3)


@pytest.mark.parametrize("key", ["n_heads", "model_length"])
def test_a_wrong_number_in_the_settings_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=key):
        convert_mdlm(mdlm(tmp_path, **{key: "four"}))
