"""GenerationReport: which walks it measures, and what it writes about them."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from kdlight.callbacks.images.generation import GenerationReport
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.sigmas import CosineGrid, KarrasGrid
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.modes import ModeCoverage
from modules.diffusion.base import DiffusionModule
from tests.exactness.diffusion_cases import consistency_distillation, tiny_denoiser, tiny_teacher

COUNT, BATCH, SEED = 20, 8, 1234


class Data:
    def one_pass(self, part: str) -> list[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(len(part))
        return [{"image": torch.rand(40, 1, 4, 4, generator=generator) * 2 - 1}]

    def judges(self) -> list[SampleMetric]:
        return []


class Student(DiffusionModule):
    """Students and a teacher to be measured, without any training."""

    def __init__(self, students: list[Generator], teacher: Generator | None) -> None:
        torch.nn.Module.__init__(self)
        self._students, self._teacher = students, teacher
        self.iteration = 0

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def generators(self) -> dict[str, tuple[str, Generator]]:
        return {str(index): ("student", item) for index, item in enumerate(self._students)}

    def teacher_generator(self) -> Generator | None:
        return self._teacher

    def step(self, batch: Any) -> None:
        raise NotImplementedError


def student(algorithm: str = "consistency", steps: tuple[int, ...] = (1, 2), **kwargs: Any):
    grid = kwargs.get("grid", KarrasGrid(0.02, 20.0))
    return Generator(tiny_denoiser(2), grid, (1, 4, 4), cast(Any, algorithm), steps, False)


def measure(folder: Path, module: DiffusionModule, **settings: Any) -> list[dict[str, Any]]:
    settings = {"num_samples": COUNT, "batch_size": BATCH, "latency_batch": 0} | settings
    data = settings.pop("data", Data())
    trainer = SimpleNamespace(
        log_dir=str(folder),
        is_global_zero=True,
        loggers=[],
        world_size=1,
        global_rank=0,
        datamodule=data,
    )
    GenerationReport(**settings).on_test_end(cast(Any, trainer), module)
    rows: list[dict[str, Any]] = json.loads((folder / "summary.json").read_text())
    return rows


def walks(rows: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(row["model"], row["steps"], row["algorithm"]) for row in rows]


@torch.no_grad()
def test_curve_of_the_teacher_and_both_steps_of_the_student(tmp_path: Path):
    teacher = tiny_teacher()
    module = Student([student()], teacher)
    rows = measure(tmp_path, module, teacher_steps=[18, 8, 4])
    assert walks(rows) == [
        ("teacher", 18, "heun"),
        ("teacher", 8, "heun"),
        ("teacher", 4, "heun"),
        ("teacher", 2, "euler"),
        ("teacher", 1, "euler"),
        ("student", 2, "consistency"),
        ("student", 1, "consistency"),
    ]
    assert [row["nfe"] for row in rows] == [35, 15, 7, 2, 1, 2, 1]
    pictures = {path.name for path in (tmp_path / "samples").iterdir()}
    expected = {f"final_teacher_{steps}.png" for steps in (18, 8, 4, 2, 1)}
    assert pictures == expected | {"final_student_1.png", "final_student_2.png"}


@torch.no_grad()
def test_gap_is_to_the_teachers_own_walk_from_the_same_noise(tmp_path: Path):
    teacher, learner = tiny_teacher(), student()
    # Its own walk is not among the rows, and is the reference all the same.
    for index, steps in enumerate(([18, 4], [4])):
        module = Student([learner], teacher)
        rows = measure(tmp_path / str(index), module, teacher_steps=steps)
        assert not any("teacher_gap" in row for row in rows if row["model"] == "teacher")
        for row in rows[-2:]:
            squares = []
            for noise, condition in noise_for(learner, COUNT, BATCH, SEED, torch.device("cpu")):
                made = learner(noise, condition, row["steps"])
                squares.append((made - teacher(noise, condition)).double().square().flatten())
            assert row["teacher_gap"] == pytest.approx(float(torch.cat(squares).mean()), rel=1e-6)
    assert rows[-1]["teacher_gap"] != rows[-2]["teacher_gap"]


class Counted(Generator):
    """Counts its walks by their steps."""

    def forward(
        self, noise: Tensor, condition: Any = None, steps: Any = None, callback: Any = None
    ):
        self.seen[self.steps[0] if steps is None else steps] += 1
        return super().forward(noise, condition, steps, callback)


@torch.no_grad()
def test_the_teacher_walks_once_a_row(tmp_path: Path):
    teacher = Counted(tiny_denoiser(), KarrasGrid(0.02, 20.0), (1, 4, 4))
    teacher.seen = Counter()
    measure(tmp_path, Student([student(steps=(1, 2, 3))], teacher), teacher_steps=[18, 4])
    batches = -(-COUNT // BATCH)
    assert teacher.seen == dict.fromkeys((18, 4, 3, 2, 1), batches)


@pytest.mark.parametrize(
    ("learner", "teacher_steps", "expected"),
    [
        # One step is the same with any sampler; two are not.
        (student(), [18, 2, 1], [(18, "heun"), (2, "heun"), (2, "euler"), (1, "heun")]),
        (student(), [18, 4, 18], [(18, "heun"), (4, "heun"), (2, "euler"), (1, "euler")]),
        (student("heun"), [18, 2], [(18, "heun"), (2, "heun"), (1, "heun")]),
        # The same steps on another grid are another walk, apart from a single one.
        (
            student("heun", grid=CosineGrid(20.0)),
            [18, 2, 1],
            [(18, "heun"), (2, "heun"), (2, "heun"), (1, "heun")],
        ),
        # A flow map jumps; its teacher has no such sampler.
        (student("jump"), None, [(18, "heun"), (2, "euler"), (1, "euler")]),
    ],
)
def test_no_walk_of_the_teacher_is_measured_twice(learner, teacher_steps, expected):
    teacher = tiny_teacher()
    report = GenerationReport(teacher_steps=teacher_steps)
    found = report._walks(Student([learner, learner], teacher), teacher)
    teachers = [(steps, item.algorithm) for name, item, steps in found if name == "teacher"]
    assert teachers == expected
    assert found[0][1] is teacher


@torch.no_grad()
def test_picture_of_the_teacher_is_that_of_its_own_sampler(tmp_path: Path):
    module = Student([student(steps=(2,))], tiny_teacher())
    measure(tmp_path / "both", module, teacher_steps=[18, 2])
    measure(tmp_path / "own", Student([], tiny_teacher()), teacher_steps=[18, 2])
    both, own = (tmp_path / name / "samples/final_teacher_2.png" for name in ("both", "own"))
    assert both.read_bytes() == own.read_bytes()


@torch.no_grad()
def test_a_method_of_two_steps_has_both_rows(tmp_path: Path):
    rows = measure(tmp_path, consistency_distillation())
    assert walks(rows)[-2:] == [("student", 2, "consistency"), ("student", 1, "consistency")]
    assert (tmp_path / "samples" / "final_student_1.png").is_file()


@torch.no_grad()
def test_without_a_teacher_there_is_no_gap(tmp_path: Path):
    rows = measure(tmp_path, Student([student()], None))
    assert walks(rows) == [("student", 2, "consistency"), ("student", 1, "consistency")]
    assert not any("teacher_gap" in row for row in rows)


class Points:
    """Data that know their law, as datamodules.images.mixture does."""

    def __init__(self) -> None:
        self.mixture = MixtureDenoiser([[-0.5, 0.0], [0.5, 0.0]], variances=0.01)

    def one_pass(self, part: str) -> list[dict[str, Tensor]]:
        points = self.mixture.draw(200, torch.Generator().manual_seed(len(part)))[0]
        return [{"image": points}]

    def judges(self) -> list[SampleMetric]:
        return [ModeCoverage(self.mixture)]


@torch.no_grad()
def test_modes_of_data_that_know_their_law(tmp_path: Path):
    oracle = Generator(Points().mixture, KarrasGrid(0.01, 10.0), (2,), steps=(16,))
    rows = measure(tmp_path, Student([], oracle), data=Points(), num_samples=100)
    assert rows[0]["modes"] == 1.0
    assert rows[0]["strays"] == 0.0
    assert rows[0]["precision"] == pytest.approx(rows[0]["precision_floor"], abs=0.15)


@pytest.mark.parametrize(
    ("forgotten", "classes", "message"),
    [
        ([12], 10, "forgotten: expected classes from 0 to 9 as the data has, found 12"),
        ([3], 0, "forgotten: expected classes to ask for, but the data has no labels"),
        ([3], 10, "forgotten: expected classes to ask for, but the student has no labels"),
    ],
)
def test_forgotten_classes_that_do_not_exist(forgotten, classes, message):
    report = GenerationReport(classifier="digits_classifier", forgotten=forgotten)
    trainer = SimpleNamespace(datamodule=SimpleNamespace(num_classes=classes))
    unlabelled = Generator(Points().mixture, KarrasGrid(0.02, 20.0), (2,))
    with pytest.raises(InputError, match=message):
        report.setup(cast(Any, trainer), Student([unlabelled], None), "fit")


def test_forgetting_needs_a_judge():
    with pytest.raises(InputError, match="forgotten: expected a classifier to judge the classes"):
        GenerationReport(forgotten=[3])
