"""Files and options that testers spoilt: one sentence each, exit code 2, nothing written."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdlight import cli, warned
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import CharacterTokenizer
from tests.commands.tiny import Run, refused


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of the letters a and b."""
    path = tmp_path_factory.mktemp("writer") / "writer.safetensors"
    network = TokenTransformer(4, width=8, depth=1, heads=2, causal=True)
    model = AutoregressiveGenerator(AutoregressiveModel(network, 4, 6))
    save_model(TextGenerator(model, CharacterTokenizer("ab")), path)
    return path


@pytest.mark.parametrize("verb", ["sample", "pairs", "generate", "prune", "select"])
@pytest.mark.parametrize("seed", ["-1", str(2**63), "1.5"])
def test_seeds_are_what_generators_of_numbers_take(
    verb: str, seed: str, kdlight: Run, tmp_path: Path
) -> None:
    refused(kdlight, [verb, "--seed", seed], "--seed: expected a", seed, where=tmp_path)


@pytest.mark.parametrize("verb", ["sample", "pairs", "generate", "evaluate images", "convert"])
def test_nobody_walks_for_days(verb: str, kdlight: Run, tmp_path: Path) -> None:
    words = [*verb.split(), "--steps", "99999999"]
    refused(kdlight, words, "--steps: expected at most 10000 steps", where=tmp_path)


@pytest.mark.parametrize("rows", [None, -1, "x", [[1]], [[0, 0, 0, -1]], [[9, 0, 0, 1]], [{}]])
def test_rows_of_a_table_of_drafts(
    rows: object, writer: Path, kdlight: Run, tmp_path: Path
) -> None:
    table = {"format": "kdlight-trigrams-1", "vocabulary": 4, "rows": rows}
    (tmp_path / "table.json").write_text(json.dumps(table))
    words = ["generate", "--checkpoint", writer, "--draft", "trigram", "--num-samples", 1]
    words += ["--draft-table", tmp_path / "table.json", "--output", tmp_path / "x.txt"]
    refused(kdlight, words, "--draft-table", "rows.0: expected three tokens", where=tmp_path)


def test_the_option_that_names_a_file_is_named(writer: Path, kdlight: Run, tmp_path: Path) -> None:
    words = [
        "generate",
        "--checkpoint",
        writer,
        "--draft",
        "trigram",
        "--output",
        tmp_path / "x.txt",
    ]
    refused(
        kdlight,
        [*words, "--draft-table", tmp_path / "t.txt"],
        "--draft-table",
        "expected a name ending in .json",
        where=tmp_path,
    )


def test_data_that_are_no_class(writer: Path, kdlight: Run, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("data: 3\n")
    words = ["score", tmp_path / "data.yaml", "--teacher", writer, "--output", tmp_path / "x.jsonl"]
    refused(kdlight, words, "data.yaml: data: expected a class_path", where=tmp_path)


def test_weights_of_another_model_are_no_adm(kdlight: Run, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    words = [
        "convert",
        "adm",
        tmp_path / "a.safetensors",
        tmp_path / "x.safetensors",
        "--kind",
        "edm",
    ]
    refused(kdlight, words, "a.safetensors", "input_blocks.*, found none", where=tmp_path)


def test_what_is_no_file_is_called_what_it_is(kdlight: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    for name, found in (
        ("pipe", "expected a file, found a pipe or a device"),
        ("link", "a link to nothing"),
        ("loop", "a link to nothing"),
        ("folder", "expected a file, found a folder"),
        ("gone", "no such file"),
    ):
        words = ["sample", "--checkpoint", tmp_path / name, "--output", tmp_path / "x.png"]
        refused(kdlight, words, f"{name}: {found}", where=tmp_path)


def test_a_class_that_a_model_may_not_name_is_told_with_its_file(
    writer: Path, kdlight: Run, tmp_path: Path
) -> None:
    (tmp_path / "writer.safetensors").write_bytes(writer.read_bytes())
    described = json.loads(writer.with_suffix(".json").read_text())
    described["spec"]["class_path"] = "os.system"
    (tmp_path / "writer.json").write_text(json.dumps(described))
    words = [
        "generate",
        "--checkpoint",
        tmp_path / "writer.safetensors",
        "--output",
        tmp_path / "x.txt",
    ]
    refused(kdlight, words, "writer.json: class_path 'os.system': expected a class", where=tmp_path)


def test_libraries_keep_their_words_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delenv("KDLIGHT_DEBUG", raising=False)
    monkeypatch.setattr(cli, "stay_within", lambda: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    assert cli.program(["--version"]) == 0
    assert [os.environ[name] for name in names] == ["error"] * 3


def test_warnings_of_libraries_are_not_shown_and_ours_are_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for place in (torch.__file__, json.__file__, cli.__file__):
        cli._show_warning(UserWarning(f"of\n{place}"), UserWarning, place, 1)
    warned.release()
    assert capsys.readouterr() == ("", f"warning: of {cli.__file__}\n")


def test_the_options_that_there_are_are_named(kdlight: Run, tmp_path: Path) -> None:
    words = ["fit", "--qqqqqqqq", "3"]
    refused(kdlight, words, "expected one of checkpoint_every, ckpt_path", where=tmp_path)
