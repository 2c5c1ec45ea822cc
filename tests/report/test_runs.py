import json
import math
from pathlib import Path

import pytest

from kdlight.errors import InputError
from kdlight.report.runs import BUCKETS, load_run, load_runs, parse_rows


def test_whole_run_is_read(make_run):
    run = load_run(make_run(seed=2))
    assert (run.label, run.seed) == ("quickstart/version_2", 2)
    assert [(row.model, row.steps) for row in run.rows][-1] == ("student", 1)
    assert run.rows[-1].values["frechet_features"] == pytest.approx(0.63)
    assert "teacher_gap" not in run.rows[-1].values, "NaN is no value"
    assert [picture.at for picture in run.progress] == [0, 1500, 3000, 4500, 6000]
    assert [(picture.model, picture.at) for picture in run.finals] == [
        ("student", 1),
        ("student", 2),
        ("student", 4),
        ("teacher", 1),
        ("teacher", 18),
    ]
    assert run.animations[0].model == "teacher_18"
    assert run.notes == []


@pytest.mark.parametrize("kept", ["config.yaml", "metrics.csv", "summary.json", "run.json"])
def test_unfinished_run_is_read_with_what_it_has(tmp_path: Path, make_run, kept):
    text = (make_run() / kept).read_text()
    folder = tmp_path / "other" / "version_0"
    folder.mkdir(parents=True)
    (folder / kept).write_text(text)
    run = load_run(folder)
    assert run.name == ("quickstart" if kept == "run.json" else "other")
    assert (bool(run.config), bool(run.curves), bool(run.rows), bool(run.facts)) == tuple(
        kept == name for name in ("config.yaml", "metrics.csv", "summary.json", "run.json")
    )


def test_curves_follow_iteration_and_skip_what_is_torn(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,iteration,step,train/loss,val/gap\n"
        "0,10,5,1.0,\n0,,5,,7.5\n0,20,9,nan,\n0,30,15,2.0,\n0,40,20,3"
    )
    curves = load_run(tmp_path).curves
    assert curves["train/loss"].x == [10, 30, 40]
    assert curves["train/loss"].mean == [1, 2, 3]
    assert (curves["val/gap"].x, curves["val/gap"].mean) == ([10], [7.5])


def test_curves_use_step_without_iteration(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,3,1.5\n")
    assert load_run(tmp_path).curves["train/loss"].x == [3]


def test_long_curve_keeps_its_mean_and_its_spike(tmp_path: Path):
    values = [1.0] * 5000
    values[1234] = 99.0
    lines = [f"{index},{value}" for index, value in enumerate(values)]
    (tmp_path / "metrics.csv").write_text("\n".join(["step,train/loss", *lines]))
    curve = load_run(tmp_path).curves["train/loss"]
    assert len(curve.x) == BUCKETS
    assert max(curve.high) == 99
    assert sum(curve.mean) / BUCKETS == pytest.approx(sum(values) / 5000, rel=2e-2)
    assert all(
        low <= mean <= high
        for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True)
    )


def test_rows_may_lack_any_key():
    (row,) = parse_rows([{"accuracy": None, "variance": math.inf, "speed_up": 3}])
    assert (row.model, row.steps, row.algorithm, row.values) == ("model", None, "", {"speed_up": 3})


def test_damaged_picture_is_left_out_and_said(make_run):
    folder = make_run()
    picture = folder / "samples" / "progress_0006000.png"
    picture.write_bytes(picture.read_bytes()[:200])
    run = load_run(folder)
    assert [item.at for item in run.progress] == [0, 1500, 3000, 4500]
    assert run.notes == ["samples/progress_0006000.png could not be read and is left out."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "[1, ", "summary.json: expected JSON"),
        ("summary.json", "{}", "expected a list of rows, found an object"),
        ("summary.json", "[3]", "row 0: expected an object, found a whole number"),
        ("run.json", "[]", "expected an object, found a list"),
        ("config.yaml", b"\xff\xfe\x00", "expected UTF-8 text"),
    ],
)
def test_unreadable_file_is_one_sentence(tmp_path: Path, name, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_run(tmp_path)


def test_folder_that_is_no_run(tmp_path: Path, make_run):
    with pytest.raises(InputError, match="found no such folder"):
        load_run(tmp_path / "absent")
    with pytest.raises(InputError, match="at least one of"):
        load_run(tmp_path)
    with pytest.raises(InputError, match=r"folder of runs; name one of them.*version_0"):
        load_run(make_run().parent)


def test_seed_that_is_a_word_is_no_seed(tmp_path: Path):
    (tmp_path / "run.json").write_text(json.dumps({"seed": "seven"}))
    assert load_run(tmp_path).seed is None


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.csv"])
def test_a_folder_in_the_place_of_a_file_is_not_passed_over(tmp_path: Path, name: str):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: expected a file, found something else"):
        load_run(tmp_path)


def test_a_run_is_not_two_seeds(make_run, tmp_path: Path):
    run = make_run()
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(InputError, match="link: expected every run once, found it twice"):
        load_runs([run, tmp_path / "link"])
