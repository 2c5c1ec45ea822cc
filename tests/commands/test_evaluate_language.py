"""Measuring models that write, by the command line."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.denoiser import MaskedDenoiser, OracleDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import CharacterTokenizer
from kdlight.teachers.language_judge import LanguageJudge
from tests.commands.tiny import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An oracle and its language's configuration; a text model, a judge, and texts."""
    folder = tmp_path_factory.mktemp("models")
    language = {"states": 3, "vocabulary": 5, "length": 6}
    oracle = OracleDenoiser(HMMLanguage(**language))
    save_model(TokenGenerator(oracle), folder / "oracle.safetensors")
    spec = {"class_path": "kdlight.discrete.oracle.HMMLanguage", "init_args": language}
    data = {
        "class_path": "datamodules.text.oracle_language.OracleLanguageDataModule",
        "init_args": {"language": spec, "num_samples": 20, "num_heldout": 2000},
    }
    (folder / "oracle.yaml").write_text(yaml.safe_dump({"data": data}))
    tokenizer = CharacterTokenizer("ab ")  # five tokens
    network = TokenTransformer(5, width=8, depth=1, heads=2, causal=True)
    masked = TokenGenerator(MaskedDenoiser(network, 5, 6))
    save_model(TextGenerator(masked, tokenizer), folder / "text.safetensors")
    judge = AutoregressiveGenerator(AutoregressiveModel(network, 5, 6))
    save_model(TextGenerator(judge, tokenizer), folder / "judge.safetensors")
    (folder / "a.txt").write_text("ab ba " * 40)
    node = {
        "class_path": "datamodules.text.text_files.TextFilesDataModule",
        "init_args": {
            "path": str(folder / "a.txt"),
            "length": 6,
            "tokenizer": {
                "class_path": "kdlight.storage.tokenizers.CharacterTokenizer",
                "init_args": {"alphabet": "ab "},
            },
        },
    }
    (folder / "text.yaml").write_text(yaml.safe_dump({"data": node}))
    node["init_args"]["length"] = 7
    (folder / "longer.yaml").write_text(yaml.safe_dump({"data": node}))
    return folder


def test_an_exact_model_has_the_entropy_of_its_language(folder: Path, kdlight: Run, tmp_path: Path):
    words = ["--config", folder / "oracle.yaml", "--steps", 6, 1, "--draws", 8]
    words += ["--num-samples", 1500, "--output", tmp_path / "x.json"]
    found = kdlight("evaluate", "language", "--checkpoint", folder / "oracle.safetensors", *words)
    assert found.code == 0, found.err
    exact, one = json.loads((tmp_path / "x.json").read_text())
    entropy = exact["nll_floor"]
    # The bound of an exact model is its likelihood; held-out and drawn sentences are some 2,000.
    assert exact["heldout_nll"] == pytest.approx(entropy, abs=0.05)
    assert exact["perplexity"] == pytest.approx(math.exp(exact["heldout_nll"]))
    assert exact["nll"] == pytest.approx(entropy, abs=0.05)
    assert (exact["nfe"], one["nfe"]) == (6, 1)
    assert one["nll"] > exact["nll"] + 0.1
    assert exact["tokens_per_second"] > 0


def test_samples_under_a_judge_beside_their_entropy(folder: Path, kdlight: Run, tmp_path: Path):
    judge = folder / "judge.safetensors"
    words = ["--config", folder / "text.yaml", "--judge", judge, "--num-samples", 8]
    words += ["--sampler", "ancestral", "--steps", 3, "--output", tmp_path / "x.json"]
    found = kdlight("evaluate", "language", "--checkpoint", folder / "text.safetensors", *words)
    assert found.code == 0, found.err
    (row,) = json.loads((tmp_path / "x.json").read_text())
    # Both networks end in a head of zeros: every token has probability 1/5.
    assert row["heldout_nll"] == pytest.approx(math.log(5))
    assert row["generative_perplexity"] == pytest.approx(5)
    assert row["algorithm"] == "ancestral"
    texts = folder / "rows.jsonl"
    texts.write_text("\n".join(json.dumps({"text": text}) for text in ("ab ab ab", "aaaa")))
    words = ["--samples", texts, "--judge", judge, "--output", tmp_path / "y.json"]
    assert kdlight("evaluate", "language", *words).code == 0
    (row,) = json.loads((tmp_path / "y.json").read_text())
    assert row["generative_nll"] == pytest.approx(math.log(5))
    assert row["distinct_2"] == pytest.approx((3 / 7 + 1 / 3) / 2)


def test_a_transformers_folder_as_judge_reads_in_pieces_and_begins_a_text(tmp_path: Path):
    import tokenizers
    import transformers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "</s>": 2}, "a"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    fast.save_pretrained(tmp_path)
    config = transformers.GPT2Config(
        vocab_size=3, n_positions=5, n_embd=8, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    total, count = LanguageJudge(str(tmp_path)).nll(["a b a b b", "b"])
    pieces = [[0, 1, 0, 1], [1], [1]]
    expected = 0.0
    for piece in pieces:
        logits = model(torch.tensor([[2, *piece]])).logits[0, :-1].log_softmax(dim=1)
        expected -= float(logits.gather(1, torch.tensor(piece)[:, None]).sum())
    assert count == 6
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["judge.ckpt", "models/gone/last.ckpt", "nobody/gone.ckpt"])
def test_a_judge_that_is_no_file_is_not_asked_for_on_the_hub(name: str):
    with pytest.raises(InputError, match=f"^{name}: no such file or folder.$"):
        LanguageJudge(name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "oracle.safetensors"], "--config: expected a configuration with data"),
        (
            ["--checkpoint", "text.safetensors", "--config", "longer.yaml"],
            "the length of the model, 6, found 7",
        ),
        (["--samples", "a.txt"], "--samples: expected a --judge"),
        (["--samples", "a.txt", "--steps", "4"], "--steps: expected a --checkpoint to write with"),
        (["--samples", "a.txt", "--num-samples", "4"], "--num-samples: expected a --checkpoint"),
        (["--samples", "a.txt", "--judge", "text.safetensors"], "reads from left to right"),
        (["--checkpoint", "oracle.safetensors", "--config", "a.txt"], "a section called data"),
    ],
)
def test_bad_input_is_a_sentence(words, message, folder: Path, kdlight: Run, monkeypatch):
    monkeypatch.chdir(folder)
    found = kdlight("evaluate", "language", *words)
    assert found.code == 2
    assert message in found.err
