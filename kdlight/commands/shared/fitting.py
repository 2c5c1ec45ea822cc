"""Whether model, data and trainer fit together, found out before anything is written."""

from collections.abc import Mapping
from typing import Any

import torch

from kdlight.core.memory import check_fits
from kdlight.core.spec import Recorded, spec_of
from kdlight.diffusion.latent import LatentGenerator
from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.storage.files import load_weights
from kdlight.training.base import DistillationModule

INSTEAD = {
    "gradient_clip_val": "the optimizer's clip (model.init_args.optimizer.clip)",
    "gradient_clip_algorithm": "the optimizer's clip (model.init_args.optimizer.clip)",
    "accumulate_grad_batches": "model.init_args.accumulate",
}
"""Settings of the trainer that would bypass :meth:`DistillationModule.optimize`."""

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""What a run may be computed in; Lightning has other names for the same."""


def check_parts(module: DistillationModule, data: Any, callbacks: list[Any]) -> None:
    """Compare every part that knows its shape or number of classes with the data.

    Args:
        module: The method with its parts.
        data: The data module; one without ``shape`` or ``num_classes`` is not compared.
        callbacks: Those with a ``classifier`` are compared too.

    Raises:
        InputError: A part is made for other data, or a batch does not fit into memory.
    """
    parts = {f"model.{name}": part for name, part in module.named_modules()}
    parts |= {
        f"trainer.callbacks: {type(each).__name__}.classifier": each.classifier
        for each in callbacks
        if getattr(each, "classifier", None) is not None
    }
    # What a part answers for may be of other images and classes, as an encoder within it is.
    answered = tuple(f"{name}." for name, part in parts.items() if hasattr(part, "answers_for"))
    for name, part in parts.items():
        if isinstance(part, Recorded) and not name.startswith(answered):
            check_part(name, part, data)
    shape, size = getattr(data, "shape", None), getattr(data, "batch_size", None)
    if shape is not None and size is not None:
        check_fits("data.init_args.batch_size", size, shape)
    for name, model in module.models().values():
        try:
            spec_of(model)
        except TypeError as error:
            raise InputError(
                f"model: the {name} {error}; derive its class from kdlight.core.spec.Recorded."
            ) from None


def check_part(name: str, part: Any, data: Any) -> None:
    """Compare the shape and the number of classes of a part with the data's, where both know.

    Args:
        name: What to call the part.
        part: A network, denoiser, generator or classifier; 0 classes are as many as any.
        data: A data module.

    Raises:
        InputError: They differ.
    """
    source, kind = type(data).__name__, type(part).__name__
    shape, made_for = getattr(data, "shape", None), getattr(part, "shape", None)
    if None not in (shape, made_for) and tuple(made_for or ()) != tuple(shape or ()):
        raise InputError(
            f"{name}: expected shape {tuple(shape or ())} as {source} has, "
            f"found a {kind} of shape {tuple(made_for or ())}."
        )
    classes, known = getattr(data, "num_classes", None), getattr(part, "num_classes", None)
    if classes == 0 and isinstance(part, Classifier):
        return  # of images without labels: what is learnt from them the method says
    if isinstance(part, LatentGenerator) and part.prompts is not None:
        return  # its classes are the prompts that it draws when it is measured
    if None not in (classes, known) and known not in (0, classes):
        raise InputError(
            f"{name}: expected the {classes} classes of {source}, "
            f"found a {kind} of {known} classes."
        )


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse settings of the trainer that the methods have arguments of their own for.

    Raises:
        InputError: One of them is set, the precision is none of ours, or the device it asks for is
            not there.
    """
    for name, instead in INSTEAD.items():
        value = settings.get(name)
        if value is not None and (name, value) != ("accumulate_grad_batches", 1):
            raise InputError(f"trainer.{name}: expected null, found {value}; use {instead}.")
    precision = str(settings.get("precision") or "32-true")
    if precision not in (*PRECISIONS, "32", "bf16", "16"):
        raise InputError(
            f"trainer.precision: expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, found "
            f"{precision!r}; weights and their averages are kept in float32, as small updates "
            "would be rounded away in less."
        )
    wanted = settings.get("accelerator")
    if wanted == "mps" or (wanted == "auto" and torch.backends.mps.is_available()):
        raise InputError(
            f"trainer.accelerator: expected cpu or gpu, found {wanted!r}; "
            "schedules are computed in float64, which MPS has not."
        )
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise InputError(
            f"trainer.accelerator: expected a device of this machine, found {wanted!r}; "
            "this torch sees none."
        )


def check_checkpoint(module: DistillationModule, checkpoint: dict[str, Any], path: str) -> None:
    """Load the weights once, so that a checkpoint of another method or size is refused.

    Raises:
        InputError: The weights do not fit, or were trained with another teacher.
    """
    load_weights(module, checkpoint["state_dict"], path)
    module.on_load_checkpoint(checkpoint)
