"""Training images of a configuration, and what classifiers say of them."""

import argparse
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from kdlight.commands.shared.token_data import built_data
from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.storage.text import read_text
from kdlight.storage.yaml_text import load_yaml
from kdlight.teachers.classifiers import run_classifier, transformers_classifier

Rows = Iterator[list[dict[str, float]]]


def names_images(path: Path) -> bool:
    """Whether the data of a configuration are images."""
    from datamodules.images.base import ImageDataModule

    try:
        module, _, name = load_yaml(read_text(path))["data"]["class_path"].rpartition(".")
        found = getattr(importlib.import_module(module), name)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ImportError, ValueError):
        return False  # whoever builds it says what is wrong
    return isinstance(found, type) and issubclass(found, ImageDataModule)


def read_classifier(path: Path) -> Classifier:
    """A classifier of a run or an exported file, or out of a folder of transformers."""
    made = transformers_classifier(str(path)) if path.is_dir() else run_classifier(str(path))
    return made.eval().requires_grad_(False)


def image_rows(
    options: argparse.Namespace, models: Mapping[str, Classifier]
) -> tuple[dict[str, Any], Callable[[int], Rows]]:
    """Facts of the training images of a configuration, and their scores from an image on.

    Raises:
        InputError: The data cannot be built, or are of other classes than a model.
    """
    from datamodules.images.base import ImageDataModule
    from datamodules.images.queried import digest_of_images, pool_of
    from datamodules.loader import length_of, some_of

    data = built_data(options.data, ImageDataModule)
    for role, model in models.items():
        check_fits(role, model, data)
    data.prepare_data()
    pool, labels = pool_of(data)
    count = length_of(pool)

    @torch.no_grad()
    def rows(start: int) -> Rows:
        for at in range(start, count, options.batch_size):
            image = some_of(pool, range(at, min(at + options.batch_size, count)))["image"]
            known = torch.from_numpy(labels[at : at + len(image)])
            columns = {"tokens": [1] * len(image), "label": known.tolist()}
            for role, model in models.items():
                said = said_of(model(image.to(options.device)).cpu(), known)
                columns |= {f"{role}_{name}": value.tolist() for name, value in said.items()}
            yield [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]

    facts = {"data": str(options.data), "kind": "images", "digest": digest_of_images(pool, labels)}
    return facts | {"count": count}, rows


def said_of(scores: Tensor, label: Tensor) -> dict[str, Tensor]:
    """``margin`` of the two likeliest classes; ``nll`` of the label, or of the likeliest without.

    Args:
        scores: (B, C).
        label: (B,) int64; below 0 for none.
    """
    law = scores.double().log_softmax(dim=1)
    best = law.exp().topk(2, dim=1).values
    asked = torch.where(label < 0, law.argmax(dim=1), label)
    return {"nll": -law.gather(1, asked[:, None])[:, 0], "margin": best[:, 0] - best[:, 1]}


def check_fits(role: str, model: Classifier, data: Any) -> None:
    """The model tells the classes of the data apart.

    Raises:
        InputError: It tells others.
    """
    if (data.num_classes and model.num_classes != data.num_classes) or model.num_classes < 2:
        raise InputError(
            f"--{role}: expected a classifier of the data's {data.num_classes} classes, found one "
            f"of {model.num_classes}."
        )
