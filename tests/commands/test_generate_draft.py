"""``generate --draft``: a model of kdlight, and a folder of transformers."""

import json
from pathlib import Path

import pytest
import torch

from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import CharacterTokenizer
from tests.commands.tiny import Run
from tests.networks.test_pretrained import llama


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a smaller one, one of other tokens, and two of transformers."""
    folder = tmp_path_factory.mktemp("drafts")
    for name, width, alphabet in (
        ("large", 16, "abc "),
        ("small", 8, "abc "),
        ("other", 8, "abd "),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(width)
            network = TokenTransformer(6, width=width, depth=1, heads=2, causal=True)
            torch.nn.init.normal_(network.head.weight, std=0.3)
        model = AutoregressiveGenerator(AutoregressiveModel(network, 6, 12))
        save_model(
            TextGenerator(model, CharacterTokenizer(alphabet)), folder / f"{name}.safetensors"
        )
    with torch.random.fork_rng():
        llama(folder / "llama", vocab_size=8)
        llama(folder / "tiny", width=4, seed=1, vocab_size=8)
    (folder / "texts.txt").write_text("abcabc abc " * 30)
    return folder


def test_rows_are_those_without_a_draft_where_it_draws_nothing(
    place: Path, kdlight: Run, tmp_path: Path
):
    words = ["generate", "--checkpoint", place / "large.safetensors", "--prompt", "ab", "--seed", 3]
    texts = {}
    for name, options in {
        "plain": [],
        "none": ["--draft", "none"],
        "lookup": ["--draft", "lookup"],
        "trigram": ["--draft", "trigram", "--draft-texts", place / "texts.txt"],
        "model": ["--draft", place / "small.safetensors", "--draft-block", 2],
    }.items():
        output = tmp_path / f"{name}.jsonl"
        code, out, err = kdlight(*words, *options, "--output", output)
        assert code == 0, err
        texts[name] = [json.loads(line)["text"] for line in output.read_text().splitlines()]
        if options:
            assert "tokens in" in out.splitlines()[-2]
            assert "calls of the target" in out.splitlines()[-2]
    assert texts["none"] == texts["lookup"] == texts["trigram"] == texts["plain"]
    assert all(text.startswith("ab") for text in texts["model"])


def test_a_folder_of_transformers_writes_with_a_smaller_one(
    place: Path, kdlight: Run, tmp_path: Path
):
    words = ["generate", "--checkpoint", place / "llama", "--length", 8, "--num-samples", 2]
    words += ["--prompt", "a b", "--output", tmp_path / "x.jsonl"]
    code, _, err = kdlight(*words, "--draft", place / "tiny", "--temperature", 0.7)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert all(row["text"].startswith("a b") and len(row["tokens"]) == 8 for row in rows)
    assert kdlight(*words).code == 0


def test_a_table_goes_on_with_what_it_has_learnt(place: Path, kdlight: Run, tmp_path: Path):
    table, output = tmp_path / "table.json", tmp_path / "x.jsonl"
    words = ["generate", "--checkpoint", place / "large.safetensors", "--num-samples", 2]
    words += ["--draft", "trigram", "--draft-table", table, "--output", output]
    calls = []
    for _ in range(2):
        assert kdlight(*words).code == 0
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        calls.append(sum(row["calls"] for row in rows))
    # The same rows, of which the table now knows every three tokens.
    assert calls[1] < calls[0]
    kept = json.loads(table.read_text())
    table.write_text(json.dumps(kept | {"vocabulary": 7}))
    code, _, err = kdlight(*words)
    assert (code, "expected a table of 6 tokens, found one of 7" in err) == (2, True), err
    table.write_text("{}")
    assert "expected a table that --draft-table wrote" in kdlight(*words).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draft", "nix"], "--draft: expected none, lookup, trigram, or a model, found no nix."),
        (["--draft", "PLACE/other.safetensors"], "expected a model with the same tokenizer"),
        (["--draft", "none", "--temperature", "-1"], "expected a number of at least 0, found -1"),
        (["--draft", "none", "--temperature", "x"], "expected a number, found 'x'"),
        (["--draft", "lookup", "--draft-texts", "x"], "--draft-texts: expected --draft trigram"),
        (["--draft", "none", "--infill", "a[MASK]"], "found --infill beside it"),
        (["--temperature", "0.5"], "--temperature: expected --draft beside it"),
        (["--draft", "none", "--draft-block", "0"], "expected a number above 0, found 0"),
    ],
)
def test_bad_input_is_named(
    words: list[str], message: str, place: Path, kdlight: Run, tmp_path: Path
):
    given = [word.replace("PLACE", str(place)) for word in words]
    start = ["generate", "--checkpoint", place / "large.safetensors"]
    code, _, err = kdlight(*start, *given, "--output", tmp_path / "x.txt")
    assert (code, message in err) == (2, True), err
    assert not (tmp_path / "x.txt").exists()
