"""Experiments over seeds: ``python -m tests.benchmarks.seeds NAME`` trains all arms and compares.

Every arm is a run of the command line, so that what is measured is what users get; a run that has
ended already is not trained again. The last line is the report's path.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch

from kdlight.cli import program
from tests.benchmarks import language_experiments, language_studies
from tests.benchmarks.language_experiments import recipe

PACKAGE = "kdlight."
DISTANCE = f"--model.init_args.distance={PACKAGE}losses.distances."
CURRICULUM = f"--model.init_args.curriculum={PACKAGE}diffusion.curricula."
DECAY = f"--model.init_args.target_decay={PACKAGE}diffusion.curricula."
ICT = ["--config", "configs/digits/ict.yaml", "--model.init_args.iterations", "2000"]
CT = ["--config", "configs/digits/ct.yaml", "--model.init_args.iterations", "2000"]
TAUGHT = recipe("mixture/dmd2_trained_teacher")
EXACT_TEACHER = [
    "--model.init_args.teacher",
    '{"class_path": "kdlight.diffusion.generator.Generator", "init_args": {'
    '"denoiser": {"class_path": "datamodules.images.mixture.ring"}, '
    '"grid": {"class_path": "kdlight.diffusion.sigmas.KarrasGrid", '
    '"init_args": {"sigma_min": 0.01, "sigma_max": 10.0}}, "shape": [2], "steps": [32]}}',
]


def from_teacher(part: str) -> list[str]:
    """The option that makes a part a copy of the trained teacher of the plane."""
    checkpoint = "runs/mixture_teacher/version_0/checkpoints/last.ckpt"
    return [
        f"--model.init_args.{part}",
        '{"class_path": "kdlight.diffusion.students.copy_of", "init_args": {"teacher": '
        '{"class_path": "kdlight.teachers.diffusion.run_teacher", '
        f'"init_args": {{"checkpoint": "{checkpoint}"}}}}}}}}',
    ]


EXPERIMENTS: dict[str, dict[str, list[str]]] = {
    **language_experiments.EXPERIMENTS,
    **language_studies.EXPERIMENTS,
    # From the bundled teacher, three CPU minutes a run.
    "digits_distilled": {name: recipe(f"digits/{name}") for name in ("cd", "ect", "tcm", "scd")},
    # From data alone, ten CPU minutes a run at most.
    "digits_from_data": {
        name: recipe(f"digits/{name}") for name in ("ict", "ct", "sct", "meanflow")
    },
    # What iCT changed in CT, one thing at a time, at a quarter of the recipe's budget.
    "ict_ablation": {
        "ict": ICT,
        "ema_target": [*ICT, f"{DECAY}ConstantDecay", "--model.init_args.target_decay.mu", "0.9"],
        "squared_l2": [*ICT, f"{DISTANCE}SquaredL2"],
        "huber_c_1": [*ICT, f"{DISTANCE}PseudoHuber", "--model.init_args.distance.c", "1"],
        "constant_n": [
            *ICT,
            f"{CURRICULUM}ConstantCurriculum",
            "--model.init_args.curriculum.count",
            "161",
        ],
        "constant_weight": [*ICT, "--model.init_args.weighting", "constant"],
        "ct": CT,
    },
    "mixture": {
        name: recipe(f"mixture/{name}")
        for name in ("cd", "ct", "ict", "ect", "tcm", "scd", "sct", "meanflow")
    },
    # One step by score distillation and by what it has to beat, three CPU minutes a run.
    "digits_scores": {
        "dmd2": recipe("digits/dmd2"),
        # As many CPU-seconds as with a discriminator.
        "dmd2_without_gan": [
            *recipe("digits/dmd2"),
            *("--model.init_args.discriminator", "null", "--model.init_args.iterations", "2900"),
        ],
        **{
            name: recipe(f"digits/{name}")
            for name in (
                *("diff_instruct", "dmd", "sid", "sida", "fdistill", "disback"),
                *("multi_student", "boot", "trajectory_regression"),
            )
        },
    },
    # With --reach updates: who needs fewer updates of the student for what DMD2 ends in. Both make
    # 450, a run in which DMD2 is still getting better at its end.
    "digits_backtracking": {
        name: [
            *recipe(f"digits/{name}"),
            *("--model.init_args.iterations", length, "--data.init_args.steps_per_epoch", "50"),
            *("--trainer.callbacks.init_args.preview", "2000"),
        ]
        for name, length in (("dmd2", "900"), ("disback", "1200"))
    },
    # Both at 350,000 evaluations of the teacher: 2.25 for each sample that BOOT sees, 35 a pair.
    "digits_teacher_calls": {
        "boot": [
            *recipe("digits/boot"),
            *("--data.init_args.batch_size", "64", "--model.init_args.iterations", "2430"),
        ],
        "trajectory_regression": [
            *recipe("digits/trajectory_regression"),
            *("--data.init_args.count", "10000"),
        ],
    },
    "digits_students": {
        "four": recipe("digits/multi_student"),
        "one": [
            *recipe("digits/multi_student"),
            *("--model.init_args.partition", "[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]"),
        ],
    },
    "digits_forgetting": {
        "score_forgetting": recipe("digits/score_forgetting"),
        "finetune_rest": recipe("digits/finetune_rest"),
        # Nothing forgotten, and measured the same way.
        "sid": [
            *recipe("digits/score_forgetting"),
            *("--model.init_args.forget", "{3: 3}"),
        ],
    },
    "mixture_scores": {
        name: recipe(f"mixture/{name}")
        for name in (
            *("dmd2", "diff_instruct", "dmd", "sid", "sida", "fdistill", "disback"),
            *("multi_student", "score_forgetting", "boot", "trajectory_regression"),
        )
    },
    # Student and fake score start from the weights of a trained teacher, at Gaussians of width
    # 0.03; what they are drawn to is that teacher's score, or the exact one.
    "mixture_trained_teacher": {
        "taught": TAUGHT,
        "exact": [*TAUGHT, *EXACT_TEACHER, *from_teacher("student"), *from_teacher("fake_score")],
    },
}

BEFORE: dict[str, dict[str, list[str]]] = {
    **language_experiments.BEFORE,
    **language_studies.BEFORE,
    "mixture_trained_teacher": {"mixture_teacher": recipe("mixture/teacher")},
}
"""What is trained first, in ``runs``, and taught from."""


def finished(arm: Path) -> Path | None:
    """The run of an arm that went to its end, if there is one."""
    return next((path.parent for path in sorted(arm.glob("version_*/summary.json"))), None)


def kdlight(*words: str) -> None:
    """A verb in a process of its own, which need not import anything anew."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            code = program(words)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"kdlight {' '.join(words)}: ended with {os.waitstatus_to_exitcode(status)}.")


def main() -> None:
    """Train, then report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--arms", nargs="+", default=None, help="some of the arms")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--metric", default=None, help="figure of the verdicts")
    parser.add_argument(
        "--reach",
        choices=("iterations", "updates"),
        default=None,
        help="also judge how soon the arms are as good as the first one at its end",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    options = parser.parse_args()
    importlib.import_module("kdlight.commands.train")  # once for all the processes that are forked
    arms = EXPERIMENTS[options.experiment]
    chosen = options.arms or list(arms)
    folder = options.runs / options.experiment
    for name, words in BEFORE.get(options.experiment, {}).items():
        if finished(Path("runs") / name) is None:
            kdlight("fit", *words, "--name", name)
    for path, words in language_experiments.CUT.get(options.experiment, {}).items():
        if not Path(path).is_file():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            kdlight("prune", *words, "--output", path)
    # A folder a seed: arms can be trained in any order, side by side.
    places = {
        (arm, seed): folder / f"seed_{seed}" for arm in chosen for seed in range(options.seeds)
    }
    for (arm, seed), place in sorted(places.items(), key=lambda item: item[0][1]):
        if finished(place / arm) is None:
            words = [*arms[arm], "--name", arm, "--seed_everything", str(seed)]
            kdlight("fit", *words, "--runs_dir", str(place))
    runs = [finished(place / arm) for (arm, _), place in places.items()]
    kdlight(
        "report",
        *map(str, runs),
        *("--baseline", chosen[0], "--output", str(folder / "report.html")),
        *("--json", str(folder / "report.json")),
        *([] if options.metric is None else ["--metric", options.metric]),
        *([] if options.reach is None else ["--reach", options.reach]),
    )


if __name__ == "__main__":
    main()
