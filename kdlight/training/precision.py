"""The precision that a step needs, whatever the run's."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

# Where CUDA multiplies float32 with ten bits of mantissa unless told otherwise.
_backends: Any = torch.backends
_MULTIPLIERS = (_backends.cuda.matmul, _backends.cudnn.conv)


@contextlib.contextmanager
def one_scale(scaler: Any) -> Iterator[None]:
    """The scale of float16 gradients moves behind the block, not inside.

    Lightning moves it at every optimizer step. Where several parts gather gradients over batches,
    the step of one would leave the others with sums of differently scaled gradients.

    Args:
        scaler: The ``torch.amp.GradScaler`` of the trainer; None if its precision has none.
    """
    if scaler is None:
        yield
        return
    asked: list[None] = []
    scaler.update = lambda *_: asked.append(None)
    try:
        yield
    finally:
        del scaler.update
    if asked:
        scaler.update()


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """No autocast and no TensorFloat-32 on ``device`` inside the block.

    For losses of differences so small that a lower precision rounds them away: near the end of
    consistency tuning the two estimates of a pair differ by less than bfloat16 rounds.

    Args:
        device: Where the step runs.
    """
    before = [each.fp32_precision for each in _MULTIPLIERS]
    for each in _MULTIPLIERS:
        each.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for each, precision in zip(_MULTIPLIERS, before, strict=True):
            each.fp32_precision = precision
