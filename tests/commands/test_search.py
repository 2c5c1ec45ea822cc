"""Settings that are chosen by training: trials are runs, and a stopped search goes on."""

import json
from pathlib import Path

import pytest
import yaml

from kdlight.commands import train
from kdlight.report.runs import load_run
from tests.commands.test_prune import DATA
from tests.commands.tiny import Run, last_line, refused

pytest.importorskip("optuna")

LR, DEPTH = (
    "model.init_args.optimizer.lr",
    "model.init_args.model.init_args.network.init_args.depth",
)
SPACE = {LR: {"low": "1e-3", "high": 0.1, "log": True}, DEPTH: [1, 2]}
NETWORK = {"vocabulary": 5, "width": 4, "heads": 1, "causal": True}
CONFIG = {
    "seed_everything": 0,
    "threads": 1,
    "model": {
        "class_path": "modules.language.next_token.language_training.LanguageTraining",
        "init_args": {
            "model": {
                "class_path": "kdlight.discrete.autoregressive.AutoregressiveModel",
                "init_args": {
                    "network": {
                        "class_path": "kdlight.networks.text.token_transformer.TokenTransformer",
                        "init_args": NETWORK,
                    },
                    "vocabulary": 5,
                    "length": 6,
                },
            },
            "optimizer": {"lr": 0.01},
            "iterations": 4,
        },
    },
    "data": DATA,
    "trainer": {
        "accelerator": "cpu",
        "callbacks": [
            {
                "class_path": "kdlight.callbacks.language.language_report.LanguageReport",
                "init_args": {"num_samples": 8, "preview": 0},
            }
        ],
    },
}


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    """The command of a search, without its trials."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    where = ["--config", tmp_path / "config.yaml", "--space", tmp_path / "space.yaml"]
    return ["search", *where, "--runs_dir", tmp_path / "runs", "--model", "model"]


def test_trials_are_runs_and_a_stopped_search_goes_on(
    words: list[object], kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words += ["--metric", "golden_kl", "--trials", "3"]
    trained: list[str] = []
    fit = train.run

    def stopped_at_the_second(verb: str, argv: list[str]) -> None:
        trained.append(argv[argv.index("--name") + 1])
        if len(trained) == 2:
            raise KeyboardInterrupt
        fit(verb, argv)

    monkeypatch.setattr(train, "run", stopped_at_the_second)
    assert kdlight(*words).code == 130
    code, out, err = kdlight(*words)
    assert code == 0, err
    assert trained == ["trial_0", "trial_1", "trial_1", "trial_2"]
    rows = json.loads(last_line(out).read_text())
    assert sorted(row["trial"] for row in rows) == [0, 1, 2]
    assert [row["golden_kl"] for row in rows] == sorted(row["golden_kl"] for row in rows)
    for row in rows:
        run = load_run(tmp_path / "runs" / "search" / row["run"] / "version_0")
        assert run.rows[0].values["golden_kl"] == row["golden_kl"]
        optimizer = yaml.safe_load(run.config)["model"]["init_args"]["optimizer"]
        assert optimizer["lr"] == row["settings"][LR]
    assert len({row["settings"][LR] for row in rows}) == 3
    assert kdlight(*words).code == 0
    assert len(trained) == 4, "nothing was left to train"
    words[words.index("golden_kl")] = "perplexity"
    refused(kdlight, words, "was begun with metric", "take another --name", where=tmp_path)


@pytest.mark.parametrize(
    ("space", "metric", "expected"),
    [
        (SPACE, "golden", "--metric: golden is no figure that kdlight knows"),
        (SPACE, "nll", "--metric: nll is neither better when lower nor when higher"),
        ({}, "golden_kl", "expected dotted keys, each with a list of values"),
        ({LR: {"low": 1, "high": 0}}, "golden_kl", f"{LR}: expected a list of values"),
        ({LR: {"low": 0.0, "high": 1.0, "log": True}}, "golden_kl", f"{LR}: expected a list"),
        ({LR: 0.1}, "golden_kl", "found 0.1"),
        ({"model.init_args.nothing": [1]}, "golden_kl", "nothing"),
        ({LR: [-1.0]}, "golden_kl", "lr"),
        ({"runs_dir": ["a"]}, "golden_kl", "runs_dir: expected a key that the search does not set"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    space: object,
    metric: str,
    expected: str,
    words: list[object],
    kdlight: Run,
    tmp_path: Path,
):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    refused(kdlight, [*words, "--metric", metric], expected, where=tmp_path)


@pytest.mark.parametrize("line", ["", "[1]", '{"op_code": 99}', "\xff"])
def test_a_study_of_something_else(line: str, words: list[object], kdlight: Run, tmp_path: Path):
    (tmp_path / "runs" / "search").mkdir(parents=True)
    (tmp_path / "runs" / "search" / "study.journal").write_bytes(f"{line}\n".encode("latin-1"))
    wanted = "study.journal: expected the study of a search, found a damaged file"
    refused(kdlight, [*words, "--metric", "golden_kl"], wanted, where=tmp_path)


def test_a_figure_that_the_runs_do_not_have(words: list[object], kdlight: Run):
    code, _, err = kdlight(*words, "--metric", "top1", "--trials", "1")
    assert code == 2
    assert "--metric: expected a figure of the runs (" in err
    assert "golden_kl" in err
