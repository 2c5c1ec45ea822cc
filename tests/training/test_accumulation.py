"""Validation in the middle of an accumulation changes nothing."""

import contextlib
from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision

from datamodules.loader import EvaluationLoader
from tests.exactness.cases import CASES
from tests.exactness.harness import TinyImages, differing, fit, state


class WithValidation(TinyImages):
    """Validates after every seventh batch, inside every accumulation over three."""

    def val_dataloader(self) -> EvaluationLoader:
        images = {"image": torch.zeros(4, *self.shape), "label": torch.zeros(4).long()}
        return EvaluationLoader(images, batch_size=4)


def test_validation_keeps_the_gradients_gathered_so_far() -> None:
    make = CASES["diffusion_training"].make
    without = fit(make(accumulate=3), TinyImages())
    with_it = fit(make(accumulate=3), WithValidation())
    assert not list(differing(state(without), state(with_it)))


class ScaledGradients(MixedPrecision):
    """The gradient scaler of float16 around float32, in which powers of two are exact."""

    def forward_context(self) -> Any:
        return contextlib.nullcontext()


def scaled(make: Any, growth_interval: int) -> tuple[Any, float]:
    """A run whose gradients' scale doubles after so many updates, and the scale at its end."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=growth_interval)
    precision = ScaledGradients("16-mixed", "cpu", scaler)
    return fit(make(accumulate=2), TinyImages(), plugins=[precision]), scaler.get_scale()


def test_the_scale_of_gradients_moves_for_all_parts_at_once() -> None:
    """Powers of two change no gradient, unless a part is scaled anew amid its batches."""
    make = CASES["dmd2"].make
    fixed, scale = scaled(make, 10_000)
    assert scale == 64
    growing, scale = scaled(make, 1)  # at every update, also those of a part that goes first
    assert scale > 64
    assert not list(differing(state(fixed), state(growing)))
