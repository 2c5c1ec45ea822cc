"""Writing from the command line and from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kdlight as package
from kdlight.commands.shared.processes import Process
from kdlight.commands.shared.writing import as_writer, start_of, write_texts
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.denoiser import MaskedDenoiser, OracleDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import CharacterTokenizer
from tests.commands.tiny import Run


def network(vocabulary: int, causal: bool = False) -> TokenTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = TokenTransformer(vocabulary, width=8, depth=1, heads=2, causal=causal)
        torch.nn.init.normal_(made.head.weight)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported models of text, of an oracle language, and one that writes from left to right."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = CharacterTokenizer("abc ")
    text = TokenGenerator(MaskedDenoiser(network(6), 6, 12))
    save_model(TextGenerator(text, tokenizer), folder / "text.safetensors")
    oracle = OracleDenoiser(HMMLanguage(states=3, vocabulary=5, length=6))
    save_model(TokenGenerator(oracle), folder / "oracle.safetensors")
    causal = AutoregressiveGenerator(AutoregressiveModel(network(6, causal=True), 6, 12))
    save_model(TextGenerator(causal, tokenizer), folder / "causal.safetensors")
    return folder


def test_prompts_gaps_and_numbers_keep_what_is_given(folder: Path, kdlight: Run, tmp_path: Path):
    words = ["generate", "--checkpoint", folder / "text.safetensors", "--num-samples", 3]
    output = tmp_path / "a.jsonl"
    code, out, err = kdlight(*words, "--infill", "ab[MASK:2]c[MASK]", "--output", output)
    assert (code, out.strip()) == (0, str(output)), err
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["tokens"][:2] + row["tokens"][4:5] == [0, 1, 2]
        assert len(row["text"]) <= 6  # what stands behind the last gap is not asked for
        assert row["calls"] == 9
    assert kdlight(*words, "--prompt", "cab", "--output", tmp_path / "b.txt").code == 0
    assert (tmp_path / "b.txt").read_text().count("\ncab") == 3
    words[2] = folder / "oracle.safetensors"
    assert kdlight(*words, "--prompt", "3 1", "--output", tmp_path / "c.npz").code == 0
    with np.load(tmp_path / "c.npz") as found:
        assert found["tokens"].shape == (3, 6)
        assert (found["tokens"][:, :2] == [3, 1]).all()
        assert (found["revealed_at"][:, :2] == 0).all()


def test_a_file_of_prompts_gives_samples_of_each(folder: Path, kdlight: Run, tmp_path: Path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\nbb\n")
    words = ["--prompts", prompts, "--num-samples", 2, "--output", tmp_path / "x.jsonl"]
    assert kdlight("generate", "--checkpoint", folder / "text.safetensors", *words).code == 0
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [row["text"][:2] for row in rows[2:]] == ["bb", "bb"]
    assert [row["tokens"][0] for row in rows] == [0, 0, 1, 1]


def test_a_sample_is_a_function_of_the_seed_and_its_number(folder: Path):
    model = package.load(folder / "text.safetensors")
    for sampler in ("first_hitting", "ancestral", "confidence"):
        whole = model.sample(7, steps=4, seed=3, sampler=sampler, batch_size=7)
        parts = model.sample(7, steps=4, seed=3, sampler=sampler, batch_size=2)
        assert torch.equal(whole.tokens, parts.tokens)
        assert torch.equal(whole.revealed_at, parts.revealed_at)
        assert model.sample(2, steps=4, seed=3, sampler=sampler).texts == whole.texts[:2]
        assert not torch.equal(model.sample(7, steps=4, seed=4).tokens, whole.tokens)


def test_guidance_pulls_towards_the_prompt_and_leaves_the_model_as_it_was(folder: Path):
    model = package.load(folder / "oracle.safetensors")
    plain = model.sample(200, prompt="3")
    pulled = model.sample(200, prompt="3", guidance_scale=3.0)
    assert not torch.equal(pulled.tokens, plain.tokens)
    assert (pulled.tokens[:, 0] == 3).all()
    assert torch.equal(model.sample(200, prompt="3").tokens, plain.tokens)


def test_processes_share_the_batches(folder: Path, monkeypatch: pytest.MonkeyPatch):
    writer = package.load(folder / "text.safetensors").module
    starts = [start_of(writer, "a", None)]
    alone = write_texts(writer, starts, 5, None, 0, 2, Process(0, 1, torch.device("cpu")))
    assert alone is not None
    shared: list[object] = []

    def gather(into: list[object], mine: object) -> None:
        shared.append(mine)
        into[:] = [*shared, {}][: len(into)]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    second = Process(1, 2, torch.device("cpu"))
    monkeypatch.setattr(Process, "speaks", property(lambda self: False))
    assert write_texts(writer, starts, 5, None, 0, 2, second) is None
    monkeypatch.undo()
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    both = write_texts(writer, starts, 5, None, 0, 2, Process(0, 2, torch.device("cpu")))
    assert both is not None
    assert torch.equal(both.tokens, alone.tokens)
    assert both.texts == alone.texts


def test_a_causal_model_continues_a_prompt(folder: Path, kdlight: Run):
    model = package.load(folder / "causal.safetensors")
    found = model.sample(2, prompt="abc")
    assert (found.calls == 9).all()
    assert (found.tokens[:, :3] == torch.tensor([0, 1, 2])).all()
    with pytest.raises(InputError, match="expected only autoregressive of this model"):
        model.sample(2, sampler="ancestral")
    for option in ("--steps", "--tokens-per-call"):
        found = kdlight("generate", "--checkpoint", folder / "causal.safetensors", option, 4)
        assert (found.code, f"{option}: expected none of a model" in found.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--infill", "abc"], "--infill: expected gaps such as"),
        (["--prompt", "aü?"], "--prompt: expected what the tokenizer knows, found 'ü'"),
        (["--prompt", "a" * 13], "at most the 12 tokens of a sequence, found 13"),
        (["--infill", "[MASK:99]"], "at most the 12 tokens of a sequence, found 99"),
        (["--prompt", "a", "--infill", "b"], "not allowed with argument"),
        (["--model", "x"], "a model called 'x' that writes tokens, found text (TextGenerator)"),
        (["--sampler", "autoregressive"], "--sampler: invalid choice"),
        (["--guidance-scale", "1"], "expected a prompt or an infill, found neither"),
        (["--infill", f"[MASK:{10**20}]"], "tokens of a sequence, found 100000000000000000000"),
        (["--output", "x.csv"], "expected a name ending in .txt"),
        (["--prompts", "gone.txt"], "gone.txt: no such file"),
    ],
)
def test_bad_input_is_a_sentence(
    words: list[str], message: str, folder: Path, kdlight: Run, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = kdlight("generate", "--checkpoint", folder / "text.safetensors", *words)
    assert found.code == 2
    assert message in found.err
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_no_tokens_and_models_that_write_none(folder: Path, kdlight: Run):
    words = ["generate", "--checkpoint", folder / "oracle.safetensors", "--prompt"]
    assert (
        "expected numbers from 0 to 4 of a model without text, found '7'"
        in kdlight(*words, "1 7").err
    )
    assert "found 'a'" in kdlight(*words, "a").err
    assert as_writer(torch.nn.Linear(1, 1)) is None
