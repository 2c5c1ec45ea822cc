"""Scores of rows and of texts, what is chosen by them, and training on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datamodules.text.polluted_language import PollutedLanguageDataModule
from datamodules.text.selected import SelectedDataModule
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.selection.files import (
    ScoreWriter,
    digest_of_texts,
    read_scores,
    read_selection,
    write_selection,
)
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import CharacterTokenizer
from tests.commands.tiny import Run, refused

TEXTS = ["abcabc", "a", "cabcab", "bbbbbbbbbbbbb", "abc abc"]


def polluted() -> PollutedLanguageDataModule:
    return PollutedLanguageDataModule(HMMLanguage(3, 5, 6), num_samples=40, num_heldout=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of tokens and a configuration, two models of text and texts."""
    folder = tmp_path_factory.mktemp("scores")
    for name, width in (("teacher", 16), ("small", 8)):
        for size, length, kind in ((5, 6, "tokens"), (6, 8, "text")):
            with torch.random.fork_rng():
                torch.manual_seed(width)
                network = TokenTransformer(size, width=width, depth=1, heads=2, causal=True)
                torch.nn.init.normal_(network.head.weight, std=0.3)
            model = AutoregressiveGenerator(AutoregressiveModel(network, size, length))
            path = folder / f"{name}_{kind}.safetensors"
            text = kind == "text"
            save_model(TextGenerator(model, CharacterTokenizer("abc ")) if text else model, path)
    language = {"class_path": "kdlight.discrete.oracle.HMMLanguage"}
    language["init_args"] = {"states": 3, "vocabulary": 5, "length": 6}
    data = {
        "class_path": "datamodules.text.polluted_language.PollutedLanguageDataModule",
        "init_args": {"language": language, "num_samples": 40, "num_heldout": 8},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    return folder


def words_of(place: Path, kind: str) -> list[object]:
    data = place / ("data.yaml" if kind == "tokens" else "texts.txt")
    words: list[object] = ["score", data]
    for role, name in (("teacher", "teacher"), ("reference", "small"), ("student", "small")):
        words += [f"--{role}", place / f"{name}_{kind}.safetensors"]
    return [*words, "--batch-size", 3]


def test_rows_are_scored_chosen_and_trained_on(place: Path, kdlight: Run, tmp_path: Path):
    scores = tmp_path / "scores.jsonl"
    code, out, err = kdlight(*words_of(place, "tokens"), "--output", scores)
    assert code == 0, err
    assert out.splitlines()[-1] == str(scores)
    facts, columns = read_scores(scores)
    assert facts["count"] == 40
    assert not scores.with_name("scores.jsonl.part").exists()
    difference = columns["reference_nll"] - columns["teacher_nll"]
    for by, extra, count in (
        ("difference", [], 20),
        ("difference", ["--beta", 2], 20),
        ("likelihood", ["--per-token"], 20),
        ("margin", [], 20),
        ("robust", ["--wrong", 0.2], 20),
        ("random", ["--keep", 0.1], 4),
    ):
        output = tmp_path / f"{by}.json"
        code, out, err = kdlight("select", scores, "--by", by, *extra, "--output", output)
        assert code == 0, err
        said = json.loads(output.read_text())
        assert said["count"] == len(said["rows"]) == count
        assert f"{count} of 40 rows" in out
        assert said["rows"] == sorted(said["rows"])
        if by == "difference" and not extra:
            best = difference.argsort(descending=True, stable=True)[:20].sort().values
            assert said["rows"] == best.tolist()
            data = SelectedDataModule(polluted(), str(output))
            whole = polluted().parts
            assert torch.equal(data.parts[0]["tokens"], whole[0]["tokens"][best])
            assert torch.equal(data.parts[1]["tokens"], whole[1]["tokens"])
            assert data.law() is not None
    other = PollutedLanguageDataModule(HMMLanguage(3, 5, 6), num_samples=41, num_heldout=8)
    with pytest.raises(InputError, match="expected a selection from these data"):
        SelectedDataModule(other, str(tmp_path / "random.json")).setup()
    said["rows"][0] += 1
    (tmp_path / "random.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="expected rows as they were chosen"):
        SelectedDataModule(polluted(), str(tmp_path / "random.json")).setup()


def test_texts_come_back_as_texts(place: Path, kdlight: Run, tmp_path: Path):
    scores, kept = tmp_path / "scores.jsonl", tmp_path / "kept.jsonl"
    assert kdlight(*words_of(place, "text"), "--output", scores).code == 0
    _, columns = read_scores(scores)
    assert columns["tokens"].tolist() == [len(text) for text in TEXTS]
    code, _, err = kdlight("select", scores, "--keep", 0.4, "--per-token", "--output", kept)
    assert code == 0, err
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(rows) == 2
    assert all(TEXTS[row["row"]] == row["text"] for row in rows)
    assert json.loads(kept.with_suffix(".json").read_text())["by"] == "difference"
    (place / "texts.txt").write_text("other\n")
    code, _, err = kdlight("select", scores, "--output", kept)
    assert (code, "expected the texts that were scored, found others" in err) == (2, True)
    (place / "texts.txt").write_text("\n".join(TEXTS) + "\n")


def test_a_stopped_run_goes_on_where_it_was(place: Path, kdlight: Run, tmp_path: Path):
    whole, parted = tmp_path / "whole.jsonl", tmp_path / "parted.jsonl"
    assert kdlight(*words_of(place, "tokens"), "--output", whole).code == 0
    lines = whole.read_text().splitlines(keepends=True)
    # Killed within a row, at an odd place.
    (tmp_path / "parted.jsonl.part").write_text("".join(lines[:8]) + lines[8][:20])
    code, out, _ = kdlight(*words_of(place, "tokens"), "--output", parted)
    assert (code, "7 of 40 rows were scored before" in out) == (0, True)
    assert len(parted.read_text().splitlines()) == 41
    first, second = read_scores(whole)[1], read_scores(parted)[1]
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-5, atol=1e-6)
    # Of other models nothing is taken over.
    with ScoreWriter(parted, {"count": 1, "models": {}}) as writer:
        assert writer.done == 0
        writer.add([{"tokens": 1.0}])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "PLACE/data.yaml"], "expected at least one of --teacher"),
        (
            ["score", "PLACE/data.yaml", "--teacher", "PLACE/teacher_text.safetensors"],
            "data: expected the vocabulary of the model, 6, found 5",
        ),
        (
            ["score", "PLACE/texts.txt", "--teacher", "PLACE/teacher_tokens.safetensors"],
            "--teacher: expected a model of text, found one without a tokenizer",
        ),
        (["score", "PLACE/nix.txt", "--teacher", "PLACE/teacher_text.safetensors"], "no such file"),
        (["select", "PLACE/texts.txt"], "line 1: expected scores that `kdlight score` wrote"),
        (["select", "PLACE/texts.txt", "--keep", "0"], "expected a share above 0 and up to 1"),
        (["select", "PLACE/texts.txt", "--beta", "x"], "expected a number above 0, found 'x'"),
    ],
)
def test_bad_input_is_named(
    words: list[str], message: str, place: Path, kdlight: Run, tmp_path: Path
):
    given = [word.replace("PLACE", str(place)) for word in words]
    code, _, err = kdlight(*given, "--output", tmp_path / "x.jsonl")
    assert (code, message in err) == (2, True), err
    assert not list(tmp_path.iterdir())


def test_a_choice_without_its_scores_is_named(place: Path, kdlight: Run, tmp_path: Path):
    scores = tmp_path / "scores.jsonl"
    words = ["--teacher", place / "teacher_tokens.safetensors", "--output", scores]
    assert kdlight("score", place / "data.yaml", *words).code == 0
    for by, role in (("difference", "reference"), ("margin", "student")):
        code, _, err = kdlight("select", scores, "--by", by, "--output", tmp_path / "x.json")
        assert (code, f"expected scores of a --{role} in" in err) == (2, True), err
    code, _, err = kdlight("select", scores, "--by", "random", "--output", tmp_path / "x.jsonl")
    assert (code, "are no texts" in err) == (2, True), err


HEAD = {
    **{"format": "kdlight-scores-1", "data": "texts.txt", "kind": "texts", "digest": "d"},
    **{"count": 1, "models": {}},
}
ROW = {"tokens": 3, "student_nll": 1.0, "student_margin": 0.5}


@pytest.mark.parametrize(
    ("head", "row", "message"),
    [
        ({"count": "1"}, {}, "line 1: count, kind: expected what"),
        ({"kind": 3}, {}, "line 1: count, kind: expected what"),
        ({}, {"tokens": 1.5}, "line 2: tokens: expected a whole number of at least 0, found 1.5"),
        ({}, {"student_margin": 5}, "student_margin: expected a margin .*, 0 to 1, found 5"),
        ({}, {"student_margin": -1}, "student_margin: expected a margin .*, 0 to 1, found -1"),
        ({}, {"student_nll": -1.0}, "student_nll: expected nats of at least 0, found -1.0"),
        ({"models": {"student": 3}}, {}, "line 1: models: expected what"),
        ({"models": {"student": {"path": "x"}}}, {}, "line 1: models: expected what"),
        ({}, {"student_nll": 10**400}, r"student_nll: expected a number, found \.\.\."),
    ],
)
def test_scores_that_are_none(
    head: dict[str, object], row: dict[str, object], message: str, tmp_path: Path
):
    lines = [json.dumps({**HEAD, **head}), json.dumps({**ROW, **row})]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / "scores.jsonl")


def test_the_description_of_chosen_texts_replaces_no_file_of_another_kind(
    kdlight: Run, tmp_path: Path
):
    (tmp_path / "scores.jsonl").write_text(f"{json.dumps(HEAD)}\n{json.dumps(ROW)}\n")
    (tmp_path / "mine.json").write_text("{}")
    words = ["select", tmp_path / "scores.jsonl", "--by", "random"]
    refused(kdlight, [*words, "--output", tmp_path / "mine.jsonl"], "--force", where=tmp_path)


def test_kinds_of_a_polluted_language():
    data = polluted()
    kinds, tokens = data.kinds(), data.parts[0]["tokens"]
    assert torch.bincount(kinds).tolist() == [20, 10, 10]
    assert (tokens[kinds == 2] == tokens[kinds == 2][:, :1]).all()
    assert data.language.log_prob(tokens[kinds == 0]).mean() > -12
    with pytest.raises(InputError, match="expected shares of at least 0 that leave some"):
        PollutedLanguageDataModule(HMMLanguage(3, 5, 6), noise=0.7, repeats=0.3)


def test_chosen_texts_do_not_replace_those_that_were_scored(kdlight: Run, tmp_path: Path):
    texts, scores = tmp_path / "texts.jsonl", tmp_path / "scores.jsonl"
    texts.write_text('{"text": "a"}\n')
    head = HEAD | {"data": str(texts), "digest": digest_of_texts(["a"])}
    scores.write_text(f"{json.dumps(head)}\n{json.dumps(ROW)}\n")
    words = ["select", scores, "--by", "random", "--output", texts]
    refused(kdlight, words, "expected another file than what it is made of", where=tmp_path)


@pytest.mark.parametrize("rows", [[True, False], [0.0, 1.0]])
def test_rows_of_a_selection_are_whole_numbers(rows: list[Any], tmp_path: Path):
    path = tmp_path / "chosen.json"
    write_selection(path, rows, "d", {})
    with pytest.raises(InputError, match="expected rows as they were chosen, found others"):
        read_selection(path, "d", 2)
