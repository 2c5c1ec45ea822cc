import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from kdlight.errors import InputError
from kdlight.report.table import summary_table
from kdlight.report.verdict import compare, judge, ratio_interval, verdict_lines


def test_interval_by_hand():
    """Logs 0, 1, 2 against 3, 4, 5: difference -3, error sqrt(2/3), 4 degrees of freedom."""
    arm, baseline = [math.exp(n) for n in (0, 1, 2)], [math.exp(n) for n in (3, 4, 5)]
    margin = 2.7764451 * math.sqrt(2 / 3)
    expected = [math.exp(-3), math.exp(-3 - margin), math.exp(-3 + margin)]
    assert ratio_interval(arm, baseline) == pytest.approx(expected, rel=1e-6)


def test_interval_equals_scipys_welch():
    arm, baseline = [0.61, 0.66, 0.70, 0.63], [0.80, 0.95, 0.87]
    interval = stats.ttest_ind(np.log(arm), np.log(baseline), equal_var=False).confidence_interval()
    _, low, high = ratio_interval(arm, baseline)
    assert (low, high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)), rel=1e-9)


def test_interval_covers_the_true_ratio_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(800):
        arm = 0.7 * np.exp(generator.normal(0, 0.05, 4))
        baseline = np.exp(generator.normal(0, 0.1, 3))
        _, low, high = ratio_interval(arm.tolist(), baseline.tolist())
        covered += low < 0.7 < high
    assert 0.92 < covered / 800 < 0.98


@pytest.mark.parametrize(
    ("arm", "baseline", "metric", "word", "reason"),
    [
        ([0.60, 0.62, 0.61], [0.9, 0.92, 0.91], "frechet_features", "BEATS", ""),
        ([0.9, 0.92, 0.91], [0.60, 0.62, 0.61], "frechet_features", "NO BEATS", ""),
        ([0.9, 0.92, 0.91], [0.60, 0.62, 0.61], "accuracy", "BEATS", ""),
        ([0.6, 0.8, 1.0], [0.7, 0.9, 0.8], "frechet_features", "INCONCLUSIVE", "holds 1"),
        ([0.1, 0.1, 0.1], [0.9, 0.91], "frechet_features", "INCONCLUSIVE", "needs three seeds"),
        ([0.1], [0.9, 0.9, 0.9], "frechet_features", "INCONCLUSIVE", "needs three seeds"),
        ([0.0, 0.1, 0.1], [0.9, 0.9, 0.9], "frechet_features", "INCONCLUSIVE", "positive"),
        ([], [0.9, 0.9, 0.9], "frechet_features", "INCONCLUSIVE", "mine has no value"),
        ([0.5, 0.5, 0.5], [0.9, 0.9, 0.9], "frechet_features", "BEATS", ""),
        ([0.9, 0.9, 0.9], [0.9, 0.9, 0.9], "frechet_features", "INCONCLUSIVE", "holds 1"),
    ],
)
def test_rule(arm, baseline, metric, word, reason):
    verdict = judge("mine", arm, "base", baseline, metric)
    assert verdict.verdict == word
    assert reason in verdict.reason if reason else verdict.reason == ""


def test_compare_reads_runs_and_is_json(make_run):
    arms = {"ours": (1.0, 1.02, 0.98), "off": (1.5, 1.6, 1.55)}
    runs = [make_run(name, seed, q) for name, qs in arms.items() for seed, q in enumerate(qs)]
    result = json.loads(json.dumps(compare(runs, baseline="off"), allow_nan=False))
    assert (result["steps"], result["model"], len(result["rows"])) == ([1, 2, 4], "student", 36)
    verdict = result["verdicts"][0]
    assert (verdict["arm"], verdict["verdict"], verdict["seeds"]) == ("ours", "BEATS", 3)
    assert verdict["ratio"] == pytest.approx((1.0 * 1.02 * 0.98 / 1.5 / 1.6 / 1.55) ** (1 / 3))
    assert result["arms"][0]["median"] == pytest.approx(0.63)
    text = "\n".join(verdict_lines(result))
    assert "ours BEATS off: ratio 0.645 (95 % interval" in text
    assert [arm["name"] for arm in result["overview"]["arms"]] == ["ours", "off"]


def test_a_control_that_learnt_without_a_teacher_is_compared(make_run):
    runs = [make_run(name, seed) for name in ("ours", "alone") for seed in range(3)]
    for seed, folder in enumerate(runs[3:]):
        rows = json.loads((folder / "summary.json").read_text())
        rows = [row | {"model": "model"} for row in rows if row["model"] == "student"]
        for row in rows:
            row["frechet_features"] *= 2 + 0.01 * seed
        (folder / "summary.json").write_text(json.dumps(rows))
    result = compare(runs, baseline="alone")
    assert [item["verdict"] for item in result["verdicts"]] == ["BEATS"] * 3
    assert result["overview"]["arms"][1]["seeds"] == 3
    assert {row["model"] for row in result["rows"] if row["name"] == "alone"} == {"model"}


def test_every_number_of_steps_has_its_verdict(make_run):
    """Better in one step, worse in two: neither speaks for the other."""
    runs = [make_run(name, seed) for name in ("ours", "off") for seed in range(3)]
    for folder in runs[:3]:
        rows = json.loads((folder / "summary.json").read_text())
        noise = 1 + 0.01 * int(folder.name[-1])
        rows[-1]["frechet_features"], rows[-2]["frechet_features"] = 0.3 * noise, 1.2 * noise
        (folder / "summary.json").write_text(json.dumps(rows))
    result = compare(runs, baseline="off")
    found = [(item["steps"], item["arm"], item["verdict"]) for item in result["verdicts"]]
    assert found == [(1, "ours", "BEATS"), (2, "ours", "NO BEATS"), (4, "ours", "INCONCLUSIVE")]
    medians = {(arm["steps"], arm["name"]): arm["median"] for arm in result["arms"]}
    assert medians[1, "ours"] == pytest.approx(0.303)
    assert medians[2, "ours"] == pytest.approx(1.212)
    lines = verdict_lines(result)
    heads = [line.rpartition(" ")[2] for line in lines if not line.startswith(" ")]
    assert heads == ["1", "2", "4"]
    assert compare(runs, baseline="off", steps=2)["verdicts"] == [result["verdicts"][1]]


def test_seed_run_twice_counts_once_by_its_latest_run(make_run):
    runs = [make_run("ours", seed, q) for seed, q in enumerate((1.0, 1.1, 1.2))]
    facts = json.loads((runs[0] / "run.json").read_text())
    (runs[2] / "run.json").write_text(json.dumps(facts))  # version_2 is seed 0 again
    result = compare([*runs, make_run("off")])
    assert result["arms"][0]["values"] == pytest.approx([0.63 * 1.2, 0.63 * 1.1])
    assert result["verdicts"][0]["reason"] == "needs three seeds"


def test_steps_are_those_that_the_baseline_shares(make_run):
    ours, off, more = make_run("ours"), make_run("off"), make_run("more")
    rows = json.loads((off / "summary.json").read_text())
    (off / "summary.json").write_text(json.dumps([row for row in rows if row["steps"] > 1]))
    assert compare([ours, off])["steps"] == [2, 4]
    assert compare([ours, off], steps=1)["verdicts"][0]["reason"] == "off has no value"
    result = compare([ours, off, more])
    assert result["steps"] == [1, 2, 4]
    assert result["verdicts"][0]["reason"] == "off has no value"
    (ours / "summary.json").write_text(json.dumps([row for row in rows if row["steps"] == 1]))
    assert compare([ours, off])["steps"] == [1], "nothing is shared, and that is said"


def test_metric_is_the_headline_that_the_runs_have(make_run):
    runs = [make_run("ours"), make_run("off")]
    assert compare(runs)["metric"] == "frechet_features"
    for folder in runs:
        rows = json.loads((folder / "summary.json").read_text())
        for row in rows:
            row["sliced_wasserstein"] = row.pop("frechet_features")
        (folder / "summary.json").write_text(json.dumps(rows))
    assert compare(runs)["metric"] == "sliced_wasserstein"
    assert compare(runs[:1])["verdicts"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "nix"}, "metric nix of model student: found in no run"),
        ({"metric": "variance"}, "better lower or higher, found variance"),
        ({"steps": 7}, "steps: expected one of 1, 2, 4, found 7"),
    ],
)
def test_wrong_request_of_one_arm_is_refused_too(make_run, arguments, message):
    with pytest.raises(InputError, match=message):
        compare([make_run()], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "absent"}, "baseline: expected one of ours, off, found absent"),
        ({"metric": "beauty"}, "metric beauty of model student: found in no run.*accuracy"),
        ({"model": "pupil"}, "of models student, teacher"),
        ({"steps": 3}, "steps: expected one of 1, 2, 4, found 3"),
        ({"metric": "variance"}, "better lower or higher, found variance"),
    ],
)
def test_wrong_request_is_one_sentence(make_run, arguments, message):
    runs = [make_run("ours"), make_run("off")]
    with pytest.raises(InputError, match=message):
        compare(runs, **arguments)


def test_unfinished_runs_give_no_verdict(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name / "version_0").mkdir(parents=True)
        (tmp_path / name / "version_0" / "config.yaml").write_text("x: 1\n")
    result = compare([tmp_path / name / "version_0" for name in ("a", "b")])
    assert (result["rows"], result["verdicts"], verdict_lines(result)) == ([], [], [])


def test_table_for_a_terminal(make_run):
    rows = json.loads((make_run() / "summary.json").read_text())
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(summary_table(rows, title="quickstart"))
    lines = [line.split() for line in capture.get().splitlines() if line.strip()]
    values = ["0.630", "1.93", "99.4", "2.28", "0.977", "0.930", "0.0184", "33.2x"]
    assert lines[-2] == ["student", "1", "1", *values], "whole numbers at 80 columns"
    assert lines[-1] == ["floor", "0.210", "0.380"]
    assert "gap" not in capture.get(), "a column that no row fills"


def test_unlike_numbers_of_samples_give_no_verdict(make_codec_run):
    runs = [make_codec_run(name, seed, 1 + seed / 100) for name in ("a", "b") for seed in range(3)]
    assert compare(runs, baseline="b")["verdicts"][0]["reason"] == "the interval holds 1"
    for folder in runs[:3]:
        rows = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps([row | {"utterances": 9} for row in rows]))
    (verdict, *_) = compare(runs, baseline="b")["verdicts"]
    assert (verdict["verdict"], verdict["ratio"], verdict["seeds"]) == ("INCONCLUSIVE", None, 3)
    assert verdict["reason"] == "measured over 9 samples, b over 40 samples"
