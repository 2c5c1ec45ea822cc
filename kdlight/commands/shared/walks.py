"""The rows of an evaluation: a generator, its steps, and how they are measured."""

import argparse
import math
import statistics
from typing import Any, NamedTuple

from rich.progress import Progress, track

from kdlight.commands.parsing.arguments import picked
from kdlight.commands.shared.measures import Measures
from kdlight.commands.shared.processes import Process
from kdlight.core.noise import mix
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.diffusion.multistep import level_bounds, with_sigmas
from kdlight.metrics.images.extractors import FeatureExtractor
from kdlight.metrics.images.generation import FIDS, Row, latencies
from kdlight.metrics.images.sigma_search import ROUNDS, SampleDistance, search_sigmas


class Walk(NamedTuple):
    """A row to measure.

    Attributes:
        generator: Who samples.
        steps: In how many steps.
        levels: Whose choice the intermediate levels are where a search compares them.
    """

    generator: Generator
    steps: int
    levels: str = ""


def walks_of(options: argparse.Namespace) -> list[Walk]:
    """The rows of a checkpoint, without those that a search will add.

    A search is for one student, which is measured in one step and, at the levels that it was made
    to sample with, in as many of ``--steps`` as it has.
    """
    if options.search_sigmas:
        student = picked(options.checkpoint, None, options.model)
        level_bounds(student)  # complains about a model without free levels
        in_one = Walk(with_sigmas(student, []), 1)
        own = [Walk(student, steps, "trained") for steps in options.steps if steps > 1]
        return [in_one, *(walk for walk in own if student.accepts(walk.steps))]
    made = [
        picked(options.checkpoint, steps, options.model, options.sigmas) for steps in options.steps
    ]
    return [
        Walk(generator, steps or generator.steps[0])
        for generator, steps in zip(made, options.steps, strict=True)
    ]


def sigmas_of(walk: Walk) -> dict[str, list[float]]:
    """What ``--sigmas`` would say of the row of a consistency student, for its JSON."""
    if walk.generator.algorithm != "consistency":
        return {}
    return {"sigmas": walk.generator.grid.sigmas(walk.steps)[1:-1].tolist()}


def searched(
    options: argparse.Namespace,
    process: Process,
    student: Generator,
    data: Any,
    features: FeatureExtractor | None,
) -> list[float]:
    """The intermediate levels of the longest walk, found on noise that no row is measured with."""
    count = max(options.steps) - 1
    seed = mix(options.seed, 2)
    distance = SampleDistance(
        data.one_pass("reference"),
        data.shape,
        features,
        options.num_samples,
        options.batch_size,
        seed,
        *process,
    )
    with Progress(transient=True, disable=not process.speaks) as bar:
        task = bar.add_task("searching noise levels", total=2 * ROUNDS * count)

        def watched(generator: Generator) -> float:
            value = distance(generator)
            bar.advance(task)
            return value

        return search_sigmas(student, count, watched)


def measured(
    options: argparse.Namespace, process: Process, measures: Measures, walk: Walk
) -> list[Row]:
    """Sample and measure one walk, every process its batches: a row for each of ``--repeats``.

    With several, every row says its seed, and of each FID the best and the mean of all.
    """
    generator, steps = walk.generator.to(process.device), walk.steps
    total = math.ceil(options.num_samples / options.batch_size)
    rows: list[Row] = []
    for seed in range(options.seed, options.seed + options.repeats):
        batches = enumerate(
            noise_for(
                generator,
                options.num_samples,
                options.batch_size,
                seed,
                process.device,
                options.random_labels,
            )
        )
        for index, (noise, condition) in track(
            batches, f"{steps} steps", total, transient=True, disable=not process.speaks
        ):
            if process.mine(index):
                measures.update(generator(noise, condition, steps), condition.get("label"))
        row: Row = {
            "model": options.model or options.checkpoint.stem,
            "steps": steps,
            "nfe": generator.evaluations(steps),
            "algorithm": generator.algorithm,
        }
        if walk.levels:
            row["levels"] = walk.levels
        if options.repeats > 1:
            row["seed"] = seed
        rows.append(row | measures.row())
    speed = latencies([(generator, steps)], min(100, options.batch_size), process.device)
    together: Row = {"ms_per_image": speed[0]}
    for name in FIDS.values():
        values = [float(row[name]) for row in rows if name in row]
        if len(values) > 1:
            together |= {f"{name}_best": min(values), f"{name}_mean": statistics.mean(values)}
    return [row | together for row in rows]
