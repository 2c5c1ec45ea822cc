"""A classifier for programs that know nothing of kdlight."""

import contextlib
import copy
import importlib.util
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdlight.errors import InputError
from kdlight.metrics.timing import median_seconds
from kdlight.networks.images.classifier import Classifier
from kdlight.networks.images.foreign_classifiers import LibraryClassifier, TransformersClassifier
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.files import write_json

FILE = "classifier.json"
OPSET = 17
REPEATS = 30
"""Calls of which the median is the latency."""


def export_classifier(
    model: Classifier,
    path: Path,
    kind: str,
    shape: Sequence[int] | None,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a classifier into a folder, with ``classifier.json`` that says how to call it.

    * ``onnx``: ``classifier.onnx``; ``torch``: ``classifier.pt2``, a program of ``torch.export``.
      Both take ``image`` (B, C, H, W) float32 in [-1, 1], any B, and give ``scores``; what the
      network's library does to images before is inside.
    * ``state_dict``: ``model.safetensors``, the weights as torchvision or timm name them.
    * ``transformers``: a folder that ``AutoModelForImageClassification`` loads.

    Args:
        model: The classifier.
        path: Folder; an earlier export there is replaced as a whole.
        kind: One of these.
        shape: Shape of one image, (C, H, W); None for that which the network was made for.
        class_names: Names of the classes, in the order of the scores.

    Returns:
        What ``classifier.json`` holds; of the two programs with ``ms_per_image``, by runtime, the
        median milliseconds of a call with one image.

    Raises:
        InputError: A package is not installed, the network takes images of any shape and none is
            given, the classifier is not transformers', or something else lives at ``path``.
    """
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    about: dict[str, Any] = {"num_classes": model.num_classes, "class_names": list(class_names)}
    if isinstance(model, LibraryClassifier):
        about |= {
            "library": type(model).__name__.removesuffix("Classifier").lower(),
            "name": getattr(model, "name", None),
            "mean": model.mean.flatten().tolist(),
            "std": model.std.flatten().tolist(),
            "resized_to": model.size,
        }
    if kind == "transformers":
        return _write_transformers(model, path, about)
    if kind == "state_dict":
        inner = model.model if isinstance(model, LibraryClassifier) else model
        with atomic_folder(path, FILE) as folder:
            weights = {name: each.contiguous() for name, each in inner.state_dict().items()}
            save_file(weights, folder / "model.safetensors")
            write_json(folder / FILE, about)
        return about
    if kind == "onnx" and importlib.util.find_spec("onnx") is None:
        raise InputError("export --to onnx needs the package onnx: pip install 'kdlight[onnx]'.")
    image = torch.zeros(2, *_shape(model, shape))
    about |= {"shape": list(image.shape[1:]), "input": "image in [-1, 1]", "output": "scores"}
    with atomic_folder(path, FILE) as folder:
        times = {"torch": _milliseconds(lambda: model(image[:1]))}
        if kind == "onnx":
            file = folder / "classifier.onnx"
            _write_onnx(model, image, file)
            if importlib.util.find_spec("onnxruntime") is not None:
                times["onnxruntime"] = _onnx_milliseconds(file, image[:1])
        else:
            _write_program(model, image, folder / "classifier.pt2")
        about["ms_per_image"] = times
        write_json(folder / FILE, about)
    return about


def _shape(model: Classifier, shape: Sequence[int] | None) -> Sequence[int]:
    """Shape of the images that a program is made for."""
    if shape is not None:
        return shape
    known: Sequence[int] | None = getattr(model, "shape", None)
    size = getattr(model, "size", None)
    known = known or (None if size is None else (3, size, size))
    if known is None:
        raise InputError(
            "export: expected the shape of the images, which ClassificationReport leaves in the "
            "folder of a run (classes.json), found a network that takes any."
        )
    return known


def _write_transformers(model: Classifier, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(model, TransformersClassifier):
        raise InputError(
            f"export --to transformers: expected a classifier of transformers, found a "
            f"{type(model).__name__}; --to onnx, torch and state_dict take any."
        )
    inner: Any = model.model
    if about["class_names"]:
        inner.config.id2label = dict(enumerate(about["class_names"]))
        inner.config.label2id = {name: index for index, name in inner.config.id2label.items()}
    size = model.size or getattr(inner.config, "image_size", None)
    with atomic_folder(path, FILE) as folder:
        inner.save_pretrained(folder)
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": size is not None,
            "size": None if size is None else {"height": size, "width": size},
            "do_normalize": True,
            "image_mean": about["mean"],
            "image_std": about["std"],
        }
        write_json(folder / "preprocessor_config.json", processor)
        write_json(folder / FILE, about)
    return about


def _write_program(model: nn.Module, image: Tensor, path: Path) -> None:
    shapes = ({0: torch.export.Dim("batch")},)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        program = torch.export.export(model, (image,), dynamic_shapes=shapes)
    # By way of memory: on a full disk the writer of torch ends the process.
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())


def _write_onnx(model: nn.Module, image: Tensor, path: Path) -> None:
    # Where it fails, the exporter prints the graph it traced.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model,
                (image,),
                str(path),
                dynamo=False,
                input_names=["image"],
                output_names=["scores"],
                dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
                opset_version=OPSET,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).split(" [Caused by")[0].splitlines()[0].rstrip(".")
            raise InputError(
                f"export --to onnx: ONNX has no form for a layer ({reason}): export --to torch "
                "instead."
            ) from error


def _milliseconds(call: Any) -> float:
    with torch.no_grad():
        return 1000 * median_seconds([call], torch.device("cpu"), REPEATS)[0]


def _onnx_milliseconds(path: Path, image: Tensor) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pixels = image.numpy()
    return _milliseconds(lambda: session.run(None, {"image": pixels}))
