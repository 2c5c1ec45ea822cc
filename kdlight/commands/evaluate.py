"""``evaluate images``: measure a checkpoint, or samples of any program; dispatches the others."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kdlight.callbacks.images.generation import print_rows
from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    add_model,
    add_sigmas,
    check_output,
    inputs_of,
    positive,
    refuse_idle,
    seed,
    step_count,
    whole,
)
from kdlight.commands.shared.fitting import check_part
from kdlight.commands.shared.foreign import GivenSamples
from kdlight.commands.shared.measures import Measures
from kdlight.commands.shared.processes import Process, processes
from kdlight.commands.shared.sources import DATA, data_of, extractor
from kdlight.commands.shared.walks import Walk, measured, searched, sigmas_of, walks_of
from kdlight.core.memory import check_fits
from kdlight.core.ranks import joint_sum
from kdlight.diffusion.multistep import with_sigmas
from kdlight.errors import InputError
from kdlight.metrics.images.extractors import ClassifierFeatures, FeatureExtractor, as_classifier
from kdlight.metrics.images.forgetting import ForgettingMetrics, check_forgotten
from kdlight.metrics.images.generation import GenerationMetrics, Row
from kdlight.metrics.images.moments import PublishedDistance
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.storage.files import write_json

OF_A_MODEL = (
    "steps",
    "sigmas",
    "search_sigmas",
    "model",
    "num_samples",
    "repeats",
    "random_labels",
)
"""Options that say how a model is sampled; samples are taken as they are."""


def parser() -> Parser:
    """The options of ``evaluate images``."""
    made = Parser(
        "evaluate images",
        "Measure a model's samples, or samples in a file or folder, against a data set. "
        "For speech see `evaluate codec --help`, for text `evaluate language --help`.",
        "evaluate images --checkpoint runs/quickstart/version_0/checkpoints/last.ckpt "
        "--data digits --classifier digits_classifier --steps 1 2 4 --output figures.json",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="checkpoint or .safetensors model")
    what.add_argument(
        "--samples", type=Path, help="folder of images, OpenAI's .npz (arr_0), or .pt of `sample`"
    )
    made.add_argument("--data", help=f"{', '.join(DATA)}, or a folder of pictures")
    made.add_argument(
        "--bit-depth",
        type=positive,
        default=None,
        help="bits of grey pictures of more than 8, where they are not 16, in folders",
    )
    made.add_argument(
        "--reference",
        type=Path,
        default=None,
        help="published statistics of --features, .npz (mu, sigma) or EDM2's .pkl, instead of "
        "--data or with it",
    )
    made.add_argument(
        "--steps",
        type=step_count,
        nargs="+",
        default=[None],
        help="sampling steps, a row each (default: the model's own)",
    )
    levels = made.add_mutually_exclusive_group()
    add_sigmas(levels)
    levels.add_argument(
        "--search-sigmas",
        action="store_true",
        help="search these levels for each of --steps (default 2), on other noise than the "
        "figures are measured with; their valley is flat, so more --num-samples find them better",
    )
    add_model(made)
    made.add_argument("--num-samples", type=positive, default=2000, help="how many")
    made.add_argument(
        "--classifier",
        default=None,
        help="judge of the features: digits_classifier, nouns_classifier or a .safetensors file",
    )
    made.add_argument(
        "--features",
        default=None,
        help="inception[:FILE], inception-clean[:FILE] (resized as clean-fid does), "
        "transformers:PATH or timm:NAME; default: the classifier's",
    )
    made.add_argument(
        "--forgotten",
        type=whole,
        nargs="+",
        default=None,
        help="classes that ought to be forgotten: measure them and the others apart",
    )
    made.add_argument("--seed", type=seed, default=1234, help="seed of the noise")
    made.add_argument(
        "--repeats",
        type=positive,
        default=1,
        help="measure with so many seeds, from --seed on; the best FID of three is what EDM's "
        "papers report",
    )
    made.add_argument(
        "--random-labels",
        action="store_true",
        help="draw classes from the seed, as papers do, instead of asking for each in turn",
    )
    made.add_argument("--batch-size", type=positive, default=500, help="samples at once")
    add_device(made)
    made.add_argument("--output", type=Path, default=None, help="write the rows as JSON")
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``evaluate``."""
    kind = argv[0] if argv else ""
    if kind == "codec":
        from kdlight.commands import evaluate_codec

        evaluate_codec.run(argv[1:])
        return
    if kind == "statistics":
        from kdlight.commands import evaluate_statistics

        evaluate_statistics.run(argv[1:])
        return
    if kind == "language":
        from kdlight.commands import evaluate_language

        evaluate_language.run(argv[1:])
        return
    if kind == "captions":
        from kdlight.commands import evaluate_captions

        evaluate_captions.run(argv[1:])
        return
    if kind not in ("images", "-h", "--help"):
        raise InputError(
            "expected `evaluate images`, `evaluate codec`, `evaluate language`, `evaluate "
            f"statistics` or `evaluate captions`, found {kind or 'nothing'}."
        )
    known = parser()
    words = argv[1:] if kind == "images" else argv
    options = known.parse_args(words)
    check_options(options, known.typed(words))
    with processes(options.device) as process:
        rows, walks, found = evaluate(options, process)
        if not process.speaks:
            return
    print_rows([row | {"model": f"{row['model']} {row.get('levels', '')}".strip()} for row in rows])
    for steps in [walk.steps for walk in walks if walk.levels == "found"]:
        print(f"{steps} steps: --sigmas {' '.join(f'{sigma:g}' for sigma in found[: steps - 1])}")
    if options.output is not None:
        chosen = [sigmas_of(walk) for walk in walks for _ in range(options.repeats)] or [{}]
        write_json(options.output, [{**row, **own} for row, own in zip(rows, chosen, strict=True)])
        print(options.output)


def evaluate(
    options: argparse.Namespace, process: Process
) -> tuple[list[Row], list[Walk], list[float]]:
    """The rows, the walks that they are of, and the noise levels that a search found."""
    # What can be wrong with the input is found before the data are read.
    walks = walks_of(options) if options.checkpoint else []
    if options.random_labels and not any(walk.generator.num_classes for walk in walks):
        raise InputError("--random-labels: expected a model with classes, found one without.")
    given = None if options.samples is None else GivenSamples(options.samples, options.bit_depth)
    classifier = None if options.classifier is None else as_classifier(options.classifier)
    features = extractor(options.features)
    if features is None and classifier is not None:
        features = ClassifierFeatures(classifier)
    shape = walks[0].generator.shape if given is None else given.shape
    if given is None:
        check_fits("--num-samples", options.num_samples, shape)
    published = None
    if options.reference is not None and features is not None:
        published = PublishedDistance(features, options.reference).to(process.device)
    data: Any = None
    table = None
    if options.data is not None:
        source = f"--samples {options.samples}" if options.samples else f"--data {options.data}"
        classes = classifier is not None or any(walk.generator.num_classes for walk in walks)
        data = process.in_turn(
            lambda: data_of(options.data, shape, source, classes, options.bit_depth)
        )
        for walk in walks:
            check_part(f"--checkpoint {options.checkpoint}", walk.generator, data)
        if classifier is not None:
            check_part(f"--classifier {options.classifier}", classifier, data)
        if shape != tuple(data.shape):
            raise InputError(
                f"--samples {options.samples}: expected the data's shape {tuple(data.shape)}, "
                f"found {shape}."
            )
        forgetting = None
        if options.forgotten is not None:
            forgetting = forgetting_of(options, process, walks, given, data, features, classifier)
        table = GenerationMetrics(
            data.one_pass("reference"),
            data.one_pass("heldout"),
            features,
            classifier,
            *process,
            judges=data.judges(),
            forgetting=forgetting,
        )
    measures = Measures(table, published)
    rows: list[Row] = [] if given is None else [measured_samples(options, process, measures, given)]
    found: list[float] = []
    if options.search_sigmas:
        student = walks[0].generator.to(process.device)
        found = searched(options, process, student, data, features)
        walks += [
            Walk(with_sigmas(student, found), steps, "found")
            for steps in options.steps
            if steps > 1
        ]
    for walk in walks:
        rows += measured(options, process, measures, walk)
    return rows, walks, found


def measured_samples(
    options: argparse.Namespace, process: Process, measures: Measures, given: GivenSamples
) -> Row:
    """The row of a program's samples; its broken ones are counted, said, and left out."""
    broken = torch.zeros((), dtype=torch.int64, device=process.device)
    for index, (image, label) in enumerate(given.batches(options.batch_size)):
        if not process.mine(index):
            continue
        finite = image.flatten(1).isfinite().all(dim=1)
        broken += len(finite) - finite.sum().to(process.device)
        measures.update(
            image[finite].to(process.device),
            None if label is None else label[finite].to(process.device),
        )
    row: Row = {"model": options.samples.stem, **measures.row()}
    count = int(joint_sum(broken))
    if count:
        row["non_finite"] = count
        if process.speaks:
            print(
                f"--samples {options.samples}: {count} of {len(given)} samples hold a NaN or an "
                f"infinity and are left out of the figures."
            )
    return row


def check_options(options: argparse.Namespace, typed: frozenset[str]) -> None:
    """Complain about options that do not go together, and fill in the steps of a search.

    Args:
        options: All of them.
        typed: Those that are given.

    Raises:
        InputError: They do not.
    """
    if options.output is not None:
        check_output(options.output, (".json",), inputs_of(options), options.force)
    if options.data is None and options.reference is None:
        raise InputError("expected --data or --reference to compare samples with, found neither.")
    if options.reference is not None and options.features is None:
        raise InputError("--reference: expected the --features that its statistics are of.")
    needs_data = ("classifier", "forgotten", "search_sigmas")
    for name in needs_data if options.data is None else ():
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')}: expected --data, found --reference.")
    if options.num_samples < 2:
        raise InputError("--num-samples: a distribution takes at least 2 samples, found 1.")
    if options.samples is not None:
        refuse_idle(typed, OF_A_MODEL, "a --checkpoint to sample from", "--samples")
    folders = [each for each in (options.samples, options.data) if each and Path(each).is_dir()]
    if not folders:
        refuse_idle(typed, ("bit_depth",), "a folder of pictures")
    if options.search_sigmas:
        options.steps = [2] if options.steps == [None] else sorted(set(options.steps))
        if max(options.steps) < 2:
            raise InputError(
                "--search-sigmas: 1 step has no intermediate level, expected --steps above 1."
            )


def forgetting_of(
    options: argparse.Namespace,
    process: Process,
    walks: Sequence[Walk],
    given: GivenSamples | None,
    data: Any,
    features: FeatureExtractor | None,
    classifier: SmallClassifier | None,
) -> ForgettingMetrics:
    """What ``--forgotten`` measures.

    Raises:
        InputError: There is no classifier, or what is measured or the data know no such classes.
    """
    if classifier is None:
        raise InputError("--forgotten: expected a --classifier to judge the classes, found none.")
    if given is not None and not given.labelled:
        raise InputError(f"--forgotten: expected labels in {options.samples}, found none.")
    classes = {str(options.checkpoint): walk.generator.num_classes for walk in walks}
    for owner, count in {**classes, f"--data {options.data}": data.num_classes}.items():
        check_forgotten(options.forgotten, count, owner, "--forgotten")
    return ForgettingMetrics(
        data.one_pass("reference"),
        data.shape,
        options.forgotten,
        classifier,
        features,
        *process,
    )
