import json
from pathlib import Path

import pytest

from kdlight.report.arms import overview
from kdlight.report.runs import load_run, load_runs


def view(folders: list[Path]):
    return json.loads(json.dumps(overview([load_run(path) for path in folders], "student")))


def measured_over(folder: Path, samples: int) -> Path:
    """The run as one whose rows are over so many samples."""
    callback = f"{{class_path: other}}, {{init_args: {{num_samples: {samples}}}}}"
    (folder / "config.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}\n")
    return folder


def test_an_arm_is_its_seeds_at_each_number_of_steps(make_run):
    (arm,) = view([make_run("ours", seed, q) for seed, q in enumerate((1.0, 2.0, 4.0))])["arms"]
    assert (arm["name"], arm["seeds"]) == ("ours", 3)
    assert [(row["steps"], row["nfe"]) for row in arm["rows"]] == [(1, 1), (2, 2), (4, 4)]
    assert arm["rows"][0]["values"]["frechet_features"] == pytest.approx(
        {"median": 1.26, "low": 0.63, "high": 2.52, "count": 3}
    )
    assert arm["iterations"]["median"] == 6000
    assert arm["cpu_seconds"]["median"] == 201.7
    assert not any(key.endswith("_floor") or key == "nfe" for key in arm["rows"][0]["values"])


def test_a_seed_run_twice_counts_by_its_latest_run_that_has_the_figure(make_run):
    first, second, third = (make_run("ours", seed, q) for seed, q in enumerate((1.0, 2.0, 4.0)))
    for folder in (second, third):
        facts = json.loads((folder / "run.json").read_text()) | {"seed": 0}
        (folder / "run.json").write_text(json.dumps(facts))
    (third / "summary.json").unlink()  # still going
    (arm,) = view([first, second, third])["arms"]
    assert arm["seeds"] == 1
    assert arm["rows"][0]["values"]["frechet_features"]["median"] == pytest.approx(1.26)


def test_teachers_of_one_hash_are_one_curve(make_run):
    ours, more, other, none = (make_run(name) for name in ("ours", "more", "other", "none"))
    rows = json.loads((more / "summary.json").read_text())
    rows[1] |= {"frechet_features": 1.3}  # forced on another grid
    rows.append(rows[0] | {"steps": 8, "nfe": 15, "frechet_features": 0.6})
    (more / "summary.json").write_text(json.dumps(rows))
    facts = json.loads((other / "run.json").read_text())
    facts["teacher"] = {"source": "elsewhere", "sha256": "77" * 32}
    (other / "run.json").write_text(json.dumps(facts))
    rows = json.loads((none / "summary.json").read_text())
    students = [row for row in rows if row["model"] == "student"]
    (none / "summary.json").write_text(json.dumps(students))
    facts |= {"name": "none", "teacher": None}
    (none / "run.json").write_text(json.dumps(facts))

    seen = view([ours, more, other, none])
    first, second = seen["teachers"]
    assert first["source"] == "kdlight/assets/digits_teacher.safetensors"
    assert second["source"] == "elsewhere"
    curve = [(row["nfe"], row["steps"], row["algorithm"]) for row in first["rows"]]
    assert curve == [(1, 1, "euler"), (4, 4, "euler"), (15, 8, "heun"), (35, 18, "heun")]
    forced = first["rows"][1]["values"]["frechet_features"]
    assert (forced["low"], forced["high"], forced["count"]) == (1.3, 1.42, 2)
    assert len(second["rows"]) == 3
    assert [len(arm["rows"]) for arm in seen["arms"]] == [3, 3, 3, 3]


def test_floors_are_one_a_metric_and_number_of_samples(make_run):
    (floor,) = view([make_run("ours"), make_run("off")])["floors"]
    assert floor["samples"] is None
    assert {key: spread["median"] for key, spread in floor["values"].items()} == {
        "frechet_features": 0.21,
        "frechet_pixels": 0.38,
    }
    runs = [measured_over(make_run(f"arm{samples}"), samples) for samples in (60, 2000)]
    floors = view(runs)["floors"]
    assert [floor["samples"] for floor in floors] == [60, 2000]
    assert floors[0]["values"]["frechet_pixels"]["count"] == 6


def test_seeds_over_unlike_numbers_of_samples_are_parted(make_run):
    samples = (60, 2000, 2000)
    runs = [measured_over(make_run("ours", seed), number) for seed, number in enumerate(samples)]
    assert [run.name for run in load_runs(runs[1:])] == ["ours", "ours"]
    assert [run.name for run in load_runs(runs)] == [
        "ours (60 samples)",
        "ours (2000 samples)",
        "ours (2000 samples)",
    ]
    (runs[0] / "summary.json").unlink()  # still going: it has measured nothing
    assert [run.name for run in load_runs(runs)] == ["ours"] * 3


def test_runs_that_lack_everything_have_an_arm_without_rows(tmp_path: Path):
    folder = tmp_path / "young" / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("x: 1\n")
    seen = view([folder])
    assert seen == {
        "arms": [
            {"name": "young", "seeds": 0, "iterations": None, "cpu_seconds": None, "rows": []}
        ],
        "teachers": [],
        "floors": [],
    }


def test_rows_without_nfe_stand_at_their_steps(make_run):
    folder = make_run()
    rows = [{"model": "student", "steps": 2, "frechet_features": 0.5}]
    (folder / "summary.json").write_text(json.dumps(rows))
    assert view([folder])["arms"][0]["rows"][0]["nfe"] == 2


def test_a_teacher_is_parted_by_the_number_of_samples(make_run):
    runs = []
    for name, samples in (("few", 60), ("many", 2000), ("again", 2000)):
        folder = make_run(name)
        runs.append(load_run(measured_over(folder, samples)))
    teachers = overview(runs, "student")["teachers"]
    source = "kdlight/assets/digits_teacher.safetensors"
    assert [teacher["source"] for teacher in teachers] == [
        f"{source} (60 samples)",
        f"{source} (2000 samples)",
    ]
    counts = [teacher["rows"][0]["values"]["frechet_features"]["count"] for teacher in teachers]
    assert counts == [1, 2]
