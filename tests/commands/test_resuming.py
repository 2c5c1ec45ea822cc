"""Continuing a run: when nothing is left of it, and in another order of the data."""

import json
from pathlib import Path

import kdlight as api
from tests.commands.tiny import TINY, Run, last_line, tree


def test_a_finished_run_has_nothing_left_to_train(
    run_folder: Path, checkpoint: Path, kdlight: Run
) -> None:
    runs = run_folder.parents[1]
    before = tree(runs)
    code, out, err = kdlight("fit", "--config", TINY, "--runs_dir", runs, "--ckpt_path", "last")
    assert (code, err) == (0, "")
    assert f"{checkpoint}: nothing is left to train: all 20 iterations are done.\n" in out
    assert last_line(out) == run_folder / "report.html"
    assert tree(runs) == before
    again = api.fit(TINY, runs_dir=str(runs), ckpt_path=str(checkpoint))
    assert again.folder == run_folder


def test_a_run_that_was_killed_in_its_last_figures_makes_them(
    checkpoint: Path, tmp_path: Path, kdlight: Run
) -> None:
    killed = tmp_path / "tiny" / "version_0"
    (killed / "checkpoints").mkdir(parents=True)
    (killed / "checkpoints" / "last.ckpt").write_bytes(checkpoint.read_bytes())
    (killed / "run.json").write_text('{"name": "tiny"}')
    words = ["--config", TINY, "--runs_dir", tmp_path, "--trainer.callbacks", "[]"]
    code, out, _ = kdlight("fit", *words, "--ckpt_path", "last")
    assert code == 0
    assert last_line(out) == tmp_path / "tiny" / "version_1" / "report.html"


def test_another_order_is_refused_and_accepted_by_its_key(
    checkpoint: Path, tmp_path: Path, kdlight: Run
) -> None:
    runs = tmp_path / "runs"
    words = [
        *("--config", TINY, "--runs_dir", runs, "--trainer.callbacks", "[]"),
        *("--model.init_args.round_iterations", "12", "--ckpt_path", checkpoint),
    ]
    code, _, err = kdlight("fit", *words, "--data.init_args.batch_size", "32")
    assert code == 2
    assert "expected global_batch 16 as in the checkpoint, found global_batch 32" in err
    assert "--inexact_resume true" in err
    assert not runs.exists()
    words += ["--inexact_resume", "true"]
    code, _, err = kdlight("fit", *words, "--data.init_args.batch_size", "32")
    assert code == 0
    assert "continuing with global_batch 16 -> 32: the run no longer equals" in err
    # Where the order is the same, the key gives nothing up.
    assert (kdlight("fit", *words).code, err.count("\n")) == (0, 1)
    changed, same = (
        json.loads((runs / "tiny" / f"version_{number}" / "run.json").read_text())
        for number in (0, 1)
    )
    assert changed["inexact_resume"] == {"global_batch": [16, 32]}
    assert "inexact_resume" not in same
    assert changed["iterations"] == same["iterations"] == 24
