"""``evaluate statistics``: write the mean and covariance of features, as papers publish them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    check_output,
    inputs_of,
    positive,
    refuse_idle,
)
from kdlight.commands.shared.foreign import GivenSamples
from kdlight.commands.shared.processes import Process, processes
from kdlight.commands.shared.sources import DATA, data_of, extractor
from kdlight.errors import InputError
from kdlight.metrics.images.moments import Moments, write_moments


def parser() -> Parser:
    """The options of ``evaluate statistics``."""
    made = Parser(
        "evaluate statistics",
        "Write mean and covariance of features (mu and sigma in an .npz), which "
        "`evaluate images --reference` and other programs read.",
        "evaluate statistics --data cifar10 --features inception --output cifar10.npz",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", help=f"training part of {', '.join(DATA)}, or of a folder of pictures"
    )
    what.add_argument("--samples", type=Path, help="folder of images, .npz or .pt: all of it")
    made.add_argument("--size", type=positive, help="side of the images of a --data folder")
    made.add_argument(
        "--features",
        required=True,
        help="inception[:FILE], inception-clean[:FILE], transformers:PATH or timm:NAME",
    )
    made.add_argument("--batch-size", type=positive, default=500, help="images at once")
    add_device(made)
    made.add_argument("--output", type=Path, required=True, help=".npz file to write")
    add_force(made)
    return made


def run(argv: Sequence[str]) -> None:
    """Run ``evaluate statistics``."""
    known = parser()
    options = known.parse_args(argv)
    if options.samples is not None or options.data in DATA:
        refuse_idle(known.typed(argv), ("size",), "a folder as --data")
    check_output(options.output, (".npz",), inputs_of(options), options.force)
    features = extractor(options.features)
    assert features is not None  # required
    with processes(options.device) as process:
        moments = Moments(features).to(process.device)
        for index, images in enumerate(images_of(options, process)):
            if process.mine(index):
                moments.update(images.to(process.device), real=False)
        found = moments.compute()
        if int(found["non_finite"]):
            raise InputError(
                f"expected finite images, found {int(found['non_finite'])} with a NaN or an "
                "infinity."
            )
        if process.speaks:
            write_moments(options.output, found["mu"], found["sigma"])
            print(options.output)


def images_of(options: Any, process: Process) -> Iterator[Tensor]:
    """Batches of the images, (B, C, H, W) in [-1, 1].

    Raises:
        InputError: A folder as ``--data`` without ``--size``.
    """
    if options.samples is not None:
        given = GivenSamples(options.samples)
        yield from (part.image for part in given.batches(options.batch_size))
        return
    if options.data not in DATA and options.size is None:
        raise InputError("--size: expected the side of the images of a --data folder, found none.")
    shape, source = (3, options.size, options.size), f"--data {options.data}"
    data = process.in_turn(lambda: data_of(options.data, shape, source, False, None))
    yield from (batch["image"] for batch in data.one_pass("reference"))
