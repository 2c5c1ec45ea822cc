"""Adversarial losses and feature matching, by hand."""

import pytest
import torch
from torch import Tensor

from kdlight.losses.waveform_gan import (
    Kind,
    discriminator_loss,
    feature_matching,
    generator_loss,
)

# Two judges of different sizes: a mean over judges is not one over logits.
REAL = [torch.tensor([[2.0, 0.5]]), torch.tensor([[-1.0, 1.0, 3.0, 0.0]])]
FAKE = [torch.tensor([[0.0, -2.0]]), torch.tensor([[1.0, 0.5, -0.5, 2.0]])]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Judges: (1 + 9) / 2 and (0 + 0.25 + 2.25 + 1) / 4.
        ("least_squares", (5 + 0.875) / 2),
        # (1 + 3) / 2 and (0 + 0.5 + 1.5 + 0) / 4.
        ("hinge", (2 + 0.5) / 2),
    ],
)
def test_the_generator_has_the_loss_worked_out(kind: Kind, expected: float) -> None:
    assert float(generator_loss(FAKE, kind)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Real (1 + 0.25) / 2 and (4 + 0 + 4 + 1) / 4; fake (0 + 4) / 2 and (1 + .25 + .25 + 4) / 4.
        ("least_squares", (0.625 + 2 + 2.25 + 1.375) / 2),
        # Real (0 + 0.5) / 2 and (2 + 0 + 0 + 1) / 4; fake (1 + 0) / 2 and (2 + 1.5 + .5 + 3) / 4.
        ("hinge", (0.25 + 0.5 + 0.75 + 1.75) / 2),
    ],
)
def test_the_discriminator_has_the_loss_worked_out(kind: Kind, expected: float) -> None:
    assert float(discriminator_loss(REAL, FAKE, kind)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["least_squares", "hinge"])
def test_losses_end_where_each_side_wants_to_be(kind: Kind) -> None:
    one, target = [torch.ones(1, 5)], [torch.full((1, 5), 0.0 if kind == "least_squares" else -1.0)]
    assert generator_loss(one, kind) == 0
    assert discriminator_loss(one, target, kind) == 0
    if kind == "hinge":
        assert discriminator_loss([torch.full((1, 5), 9.0)], [torch.full((1, 5), -9.0)], kind) == 0


@pytest.mark.parametrize("kind", ["least_squares", "hinge"])
def test_gradients_are_those_of_finite_differences(kind: Kind) -> None:
    real, fake = (
        [part.double().add(0.123).requires_grad_() for part in parts] for parts in (REAL, FAKE)
    )
    assert torch.autograd.gradcheck(lambda *f: generator_loss(f, kind), fake)
    assert torch.autograd.gradcheck(
        lambda *x: discriminator_loss(x[:2], x[2:], kind), [*real, *fake]
    )


def features() -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    real = [[torch.tensor([1.0, -3.0]), torch.tensor([10.0])], [torch.tensor([0.5, 0.5, -2.0])]]
    fake = [[torch.tensor([2.0, -1.0]), torch.tensor([4.0])], [torch.tensor([0.5, 1.0, -1.0])]]
    return real, fake


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        # Distances 1.5, 6 and 0.5, over mean magnitudes 2, 10 and 1.
        (False, (1.5 + 6 + 0.5) / 3),
        (True, (0.75 + 0.6 + 0.5) / 3),
    ],
)
def test_features_have_the_distance_worked_out(relative: bool, expected: float) -> None:
    real, fake = features()
    assert float(feature_matching(real, fake, relative)) == pytest.approx(expected)


def test_a_relative_distance_has_no_unit() -> None:
    real, fake = features()
    scaled = [[[layer * 1000 for layer in judge] for judge in side] for side in (real, fake)]
    for side, plain in zip(scaled, (real, fake), strict=True):
        side[1] = plain[1]  # another unit in one judge alone
    torch.testing.assert_close(
        feature_matching(scaled[0], scaled[1], True), feature_matching(real, fake, True)
    )


@pytest.mark.parametrize("relative", [False, True])
def test_features_of_real_audio_are_held(relative: bool) -> None:
    real, fake = ([[layer.requires_grad_() for layer in j] for j in side] for side in features())
    feature_matching(real, fake, relative).backward()
    assert all(layer.grad is None for judge in real for layer in judge)
    assert all(layer.grad is not None for judge in fake for layer in judge)


def test_a_layer_that_sees_nothing_has_a_finite_distance() -> None:
    assert feature_matching([[torch.zeros(3)]], [[torch.zeros(3)]], True) == 0


def test_judges_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        discriminator_loss(REAL, FAKE[:1], "hinge")
