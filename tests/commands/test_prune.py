"""Pruning from the command line: a file of kdlight, and a stock folder of transformers."""

import json
from pathlib import Path

import pytest
import torch
import transformers
import yaml

from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.networks.text.experts import ExpertTransformer
from kdlight.networks.text.pretrained import causal_lm
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.teachers.tokens import language_teacher
from tests.commands.tiny import Run
from tests.networks.test_pretrained import llama

DATA = {
    "class_path": "datamodules.text.oracle_language.OracleLanguageDataModule",
    "init_args": {
        "language": {
            "class_path": "kdlight.discrete.oracle.HMMLanguage",
            "init_args": {"states": 3, "vocabulary": 5, "length": 6},
        },
        "num_samples": 64,
        "num_heldout": 8,
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of kdlight, a configuration with its data, a folder of transformers, and texts."""
    folder = tmp_path_factory.mktemp("prune")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TokenTransformer(5, width=8, depth=2, heads=2, causal=True)
        torch.nn.init.normal_(network.head.weight)
        llama(folder / "llama")
    model = AutoregressiveGenerator(AutoregressiveModel(network, 5, 6))
    save_model(model, folder / "model.safetensors")
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": DATA}))
    (folder / "texts.txt").write_text("a b c d a a b c " * 40)
    return folder


def test_a_model_of_kdlight_becomes_a_smaller_one(place: Path, kdlight: Run, tmp_path: Path):
    words = ["prune", place / "model.safetensors", "--calibration", place / "data.yaml"]
    output = tmp_path / "small.safetensors"
    keep = ["--keep", "mlp=10", "heads=1", "width=6", "layers=1"]
    code, out, err = kdlight(*words, *keep, "--output", output)
    assert code == 0, err
    assert out.splitlines()[-1] == str(output)
    assert "parameters 1,789 -> 339" in out
    found = language_teacher(str(output))
    assert found(torch.zeros(2, 6, dtype=torch.int64)).shape == (2, 6, 5)
    notes = json.loads(output.with_suffix(".json").read_text())["notes"]
    assert notes["keep"] == {"mlp": 10, "heads": 1, "width": 6, "layers": 1}
    assert notes["rows"] == 64
    random = tmp_path / "random.safetensors"
    for by in (["--rank-by", "random"], ["--layers-by", "loss"], ["--layers-by", "every"]):
        assert kdlight(*words, *keep, *by, "--output", random).code == 0


def test_a_folder_of_transformers_stays_one(place: Path, kdlight: Run, tmp_path: Path):
    words = ["prune", place / "llama", "--calibration", place / "texts.txt", "--length", 8]
    output = tmp_path / "small"
    code, _, err = kdlight(*words, "--keep", "mlp=6", "--output", output)
    assert code == 0, err
    stock = transformers.AutoModelForCausalLM.from_pretrained(output)
    assert stock.config.intermediate_size == 6
    tokens = torch.tensor([[4, 5, 6]])
    ours = causal_lm(str(output), length=3).eval()
    begun = torch.tensor([[0, 4, 5]])
    assert torch.equal(ours(tokens), stock(begun).logits)
    assert transformers.AutoTokenizer.from_pretrained(output).eos_token == "</s>"
    assert json.loads((output / "pruning.json").read_text())["keep"] == {"mlp": 6}
    # Nothing cut: the same bits.
    whole = tmp_path / "whole"
    assert kdlight(*words, "--keep", "mlp=16", "--output", whole).code == 0
    before = causal_lm(str(place / "llama"), length=3).eval()
    assert torch.equal(causal_lm(str(whole), length=3).eval()(tokens), before(tokens))


def test_an_expert_for_every_domain_is_cut(place: Path, kdlight: Run, tmp_path: Path):
    domains = tmp_path / "domains.yaml"
    mixed = "datamodules.text.mixed.MixedDataModule"
    settings = {"domains": {"first": DATA, "second": DATA}, "measured": 2}
    domains.write_text(yaml.safe_dump({"data": {"class_path": mixed, "init_args": settings}}))
    output = tmp_path / "experts.safetensors"
    words = ["prune", place / "model.safetensors", "--output", output, "--experts", 0.5]
    code, out, err = kdlight(*words, "--calibration", domains)
    assert code == 0, err
    assert "of 32 units a block every expert has 16" in out
    found = language_teacher(str(output))
    assert isinstance(found.network, ExpertTransformer)
    assert [each.masks.sum(dim=1).tolist() for each in found.network.perceptrons()] == [
        [16, 16]
    ] * 2
    assert json.loads(output.with_suffix(".json").read_text())["notes"]["experts"] == 2
    code, _, err = kdlight(*words, "--calibration", place / "data.yaml", "--force")
    assert (code, "expected data with domains (MixedDataModule)" in err) == (2, True), err
    assert kdlight(*words, "--calibration", domains, "--keep", "mlp=3", "--force").code == 2


def test_bad_input_is_named(place: Path, kdlight: Run, tmp_path: Path):
    output = tmp_path / "x.safetensors"
    model, data = place / "model.safetensors", ["--calibration", place / "data.yaml"]
    for words, said in (
        ([model, *data, "--keep", "mlp"], "expected PART=N such as mlp=48, found 'mlp'"),
        ([model, *data, "--keep", "mlp=33"], "--keep: mlp: expected 1 to 32, found 33."),
        ([model, *data, "--keep", "mlp=3", "mlp=4"], "--keep: mlp is given twice."),
        ([model, *data, "--keep", "experts=3"], "--keep: expected some of layers, width, mlp"),
        ([model, "--keep", "mlp=3"], "--calibration: expected a configuration or texts"),
        (
            [model, "--calibration", place / "texts.txt", "--keep", "mlp=3"],
            "--calibration: expected a configuration (.yaml), as the model has no tokenizer",
        ),
        ([place / "none.safetensors", *data, "--keep", "mlp=3"], "none.safetensors: no such file"),
    ):
        code, _, err = kdlight("prune", *words, "--output", output)
        assert (code, said in err) == (2, True), err
        assert not output.exists()
    words = ["prune", model, *data, "--keep", "mlp=3", "--output"]
    code, _, err = kdlight(*words, tmp_path / "folder")
    assert code == 2
    assert "expected a name that ends in .safetensors for a model" in err
    assert kdlight(*words, tmp_path / "x.bin").code == 2
    code, _, err = kdlight(*words, model)
    assert code == 2
    assert "expected another file than what it is made of" in err
