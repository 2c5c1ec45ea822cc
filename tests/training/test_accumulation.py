"""Validation in the middle of an accumulation changes nothing."""

import torch

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
