"""How soon an arm is as good as the baseline: rows by hand, and the rule."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdlight.errors import InputError
from kdlight.report.page import write_report
from kdlight.report.reach import compare_reach, reach_lines
from kdlight.report.runs import load_run
from kdlight.report.verdict import compare_runs

METRIC = "frechet_features"


@pytest.fixture
def arm(tmp_path: Path):
    """Makes a run that validated every 100 iterations, with two fifths as many updates."""

    def make(name: str, seed: int, values: Sequence[float], **settings) -> Path:
        metric, done, facts = (
            settings.get("metric", METRIC),
            settings.get("done", True),
            {"name": name, "seed": seed, "resumed_from": settings.get("resumed_from")},
        )
        folder = tmp_path / "runs" / name / f"version_{settings.get('version', seed)}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(facts))
        if done:
            rows = [{"model": "student", "steps": 1, metric: values[-1]}]
            (folder / "summary.json").write_text(json.dumps(rows))
        lines = [f"iteration,step,train/loss,val/{metric},val/updates"]
        for index, value in enumerate(values, 1):
            lines.append(f"{100 * index},{100 * index},1.0,,")
            lines.append(f"{100 * index},{100 * index},,{value},{40 * index}")
        if not settings.get("updates", True):
            lines = [line.rpartition(",")[0] for line in lines]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        return folder

    return make


def found(folders: Sequence[Path], axis="iterations", baseline="base", metric=None):
    runs = [load_run(folder) for folder in folders]
    result = compare_reach(runs, compare_runs(runs, baseline, metric), axis)
    return json.loads(json.dumps(result, allow_nan=False))


def three(arm, name, *curves, **settings):
    return [arm(name, seed, values, **settings) for seed, values in enumerate(curves)]


BASE = ([5.0, 4.0, 3.0, 2.2], [5.0, 4.0, 2.9, 2.0], [5.0, 1.9, 3.0, 1.8])
OURS = ([1.9, 1.0, 1.0, 1.0], [3.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0])


def test_by_hand(arm):
    result = found(three(arm, "ours", *OURS) + three(arm, "base", *BASE))
    assert (result["target"], result["metric"], result["better"]) == (2.0, METRIC, "lower")
    base, ours = result["arms"]
    # The first seed of the baseline never gets there; the third got there early, once.
    assert (base["arm"], base["values"], base["reached"]) == ("base", [400, 400, 200], 2)
    assert (base["verdict"], base["median"]) == ("", 400)
    assert (ours["values"], ours["reached"], ours["median"]) == ([100, 200, 100], 3, 100)
    assert ours["ratio"] == pytest.approx((100 * 200 * 100 / (400 * 400 * 200)) ** (1 / 3))
    assert ours["verdict"] == "BEATS"
    assert ours["low"] < ours["ratio"] < ours["high"] < 1
    assert result["curves"][0] == {
        "name": "ours",
        "run": "ours/version_0",
        "x": [100, 200, 300, 400],
        "y": [1.9, 1.0, 1.0, 1.0],
    }
    lines = reach_lines(result)
    assert lines[0] == "Iterations to the final Fréchet features of base, 2.00%, at validation"
    assert lines[1] == "  base: median 400, 2 of 3 seeds"
    assert lines[2].startswith(
        "  ours: median 100, 3 of 3 seeds; BEATS base: ratio 0.397 (95 % int"
    )


def test_in_updates_of_the_student(arm):
    result = found(three(arm, "ours", *OURS) + three(arm, "base", *BASE), "updates")
    assert [item["median"] for item in result["arms"]] == [160, 40]
    assert result["curves"][0]["x"] == [40, 80, 120, 160]


def test_higher_is_better_for_a_share(arm):
    curves = [[0.2, 0.6, 0.9], [0.1, 0.7, 0.9], [0.3, 0.95, 0.9]]
    flat = [[0.1, 0.1, 0.6 + 0.01 * seed] for seed in range(3)]
    folders = three(arm, "ours", *curves, metric="accuracy")
    folders += three(arm, "base", *flat, metric="accuracy")
    result = found(folders, metric="accuracy")
    assert result["target"] == pytest.approx(0.61)
    assert [item["median"] for item in result["arms"]] == [300, 200]


def test_an_arm_that_does_not_get_there_cannot_win_but_can_lose(arm):
    late = ([1.0] * 4, [1.0] * 4, [9.0, 9.0, 9.0, 9.0])
    base = ([9.0] * 20 + [2.0],) * 3
    ours = found(three(arm, "ours", *late) + three(arm, "base", *base))["arms"][1]
    assert (ours["verdict"], ours["reason"]) == ("INCONCLUSIVE", "1 of 3 seeds never got there")
    never = found(three(arm, "lost", *[[9.0] * 21] * 3) + three(arm, "soon", *[[1.0] * 4] * 3),
                  baseline="soon")  # fmt: skip
    lost = never["arms"][1]
    assert (lost["verdict"], lost["median"], lost["reached"]) == ("NO BEATS", None, 0)
    assert "lost: not reached, 0 of 3 seeds; NO BEATS soon" in "\n".join(reach_lines(never))


def test_runs_that_are_not_whole_are_left_out(arm):
    folders = three(arm, "base", *BASE) + three(arm, "ours", *OURS[:2])
    folders.append(arm("ours", 2, [0.1], done=False))
    folders.append(arm("ours", 2, [0.1], resumed_from="last.ckpt", version=3))
    ours = found(folders)["arms"][1]
    assert (ours["values"], ours["reason"]) == ([100, 200], "needs three seeds")


def test_a_seed_run_twice_counts_by_its_latest_run(arm):
    folders = three(arm, "base", *BASE) + three(arm, "ours", *OURS)
    folders.append(arm("ours", 0, [9.0, 9.0, 9.0], version=7))
    ours = found(folders)["arms"][1]
    assert (sorted(ours["values"]), ours["reached"]) == ([100, 200, 300], 2)


def test_bad_requests(arm):
    base, ours = three(arm, "base", *BASE), three(arm, "ours", *OURS)
    with pytest.raises(InputError, match="reach: expected runs of at least two names, found base"):
        found(base)
    silent = arm("silent", 0, [1.0], updates=False)
    with pytest.raises(
        InputError, match=f"finished run of silent with val/{METRIC} and val/updates in its"
    ):
        found([silent, *ours], "updates", baseline="silent")
    (base[0] / "metrics.csv").unlink()
    with pytest.raises(InputError, match=f"finished run of base with val/{METRIC} in its"):
        found([base[0], *ours])


def test_validations_over_unlike_numbers_of_samples_are_refused(arm):
    runs = three(arm, "base", *BASE) + three(arm, "ours", *OURS)
    for folder, preview in zip(runs, (60, 60, 60, 60, 500, 60), strict=True):
        callback = f"{{class_path: other, init_args: {{preview: {preview}}}}}"
        (folder / "config.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}\n")
    message = "base/version_0 and ours/version_1 over the same preview, found 60 samples and 500"
    with pytest.raises(InputError, match=message):
        found(runs)
    (runs[4] / "summary.json").unlink()  # not whole, so it is left out
    assert len(found(runs)["curves"]) == 5


def test_the_page_holds_it_if_asked(arm, tmp_path: Path):
    folders = three(arm, "base", *BASE) + three(arm, "ours", *OURS)
    for axis in (None, "updates"):
        page = write_report(folders, tmp_path / "report.html", reach=axis)
        data = re.search(r'id="data">(.*?)</script>', page.read_text())
        assert data is not None
        reach = json.loads(data[1])["comparison"].get("reach")
        assert (reach and reach["axis"]) == axis
