"""Guidance losses: values in closed form, invariances, masks, gradients."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.losses.guidance import (
    cosine_loss,
    d_axis_loss,
    global_contrastive_loss,
    masked_mean,
    mse_loss,
    pseudo_label_loss,
    t_axis_loss,
    windowed_contrastive_loss,
)

Loss = Callable[..., Tensor]
LOSSES = [
    d_axis_loss,
    t_axis_loss,
    cosine_loss,
    mse_loss,
    global_contrastive_loss,
    windowed_contrastive_loss,
]
LOWEST, HIGHEST = math.log(1 + math.exp(-1)), math.log(1 + math.e)


def pair(seed: int = 0, shape: tuple[int, int, int] = (3, 7, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return student, teacher


def ragged() -> Tensor:
    return torch.arange(7) < torch.tensor([7, 4, 2])[:, None]


def test_bounds_are_reached_and_kept() -> None:
    student, teacher = pair()
    for loss in (d_axis_loss, t_axis_loss):
        assert loss(teacher, teacher).item() == pytest.approx(LOWEST)
        assert loss(-teacher, teacher).item() == pytest.approx(HIGHEST)
        assert LOWEST < loss(student, teacher).item() < HIGHEST
    assert cosine_loss(teacher, teacher).item() == pytest.approx(0)
    assert cosine_loss(-teacher, teacher).item() == pytest.approx(2)
    assert mse_loss(teacher, teacher).item() == 0


def test_d_axis_by_hand() -> None:
    # Courses (3, 4) and (4, 3) have the cosine 24/25; (1, 0) and (0, 1) have 0.
    student = torch.tensor([[[3.0, 1.0], [4.0, 0.0]]])
    teacher = torch.tensor([[[4.0, 0.0], [3.0, 1.0]]])
    expected = (math.log(1 + math.exp(-24 / 25)) + math.log(2)) / 2
    assert d_axis_loss(student, teacher).item() == pytest.approx(expected)
    # The rows are (3, 1), (4, 0) and (4, 0), (3, 1).
    expected = math.log(1 + math.exp(-3 / math.sqrt(10)))
    assert t_axis_loss(student, teacher).item() == pytest.approx(expected)
    assert t_axis_loss(student, teacher, l1_weight=2).item() == pytest.approx(expected + 2)


def test_scale_and_permutation() -> None:
    student, teacher = pair()
    per_dimension = torch.tensor([0.1, 2, 30, 400, 5])
    per_frame = torch.arange(1, 8)[:, None]
    torch.testing.assert_close(
        d_axis_loss(student * per_dimension, teacher), d_axis_loss(student, teacher)
    )
    for loss in (t_axis_loss, cosine_loss):
        torch.testing.assert_close(loss(student * per_frame, teacher), loss(student, teacher))
    time, batch = torch.tensor([3, 1, 6, 0, 2, 5, 4]), torch.tensor([2, 0, 1])
    for loss in LOSSES[:-1]:
        expected = loss(student, teacher)
        torch.testing.assert_close(loss(student[:, time], teacher[:, time]), expected)
        torch.testing.assert_close(loss(student[batch], teacher[batch]), expected)
    assert not torch.isclose(d_axis_loss(student[:, time], teacher), d_axis_loss(student, teacher))


@pytest.mark.parametrize("loss", LOSSES)
def test_masked_frames_do_not_exist(loss: Loss) -> None:
    student, teacher = pair()
    mask = ragged()
    expected = loss(student, teacher, mask)
    for fill in (1e6, torch.nan):
        noise = ~mask[..., None].expand_as(student)
        changed = teacher.masked_fill(noise, fill)
        torch.testing.assert_close(loss(student.masked_fill(noise, fill), changed, mask), expected)
    # One utterance alone, cut to its length, is the same as masked.
    torch.testing.assert_close(
        loss(student[1:2], teacher[1:2], mask[1:2]), loss(student[1:2, :4], teacher[1:2, :4])
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_an_empty_mask_is_a_zero_with_gradient(loss: Loss) -> None:
    student, teacher = pair()
    student.requires_grad_()
    value = loss(student, teacher, torch.zeros(3, 7, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert student.grad.eq(0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_right_and_reaches_every_frame(loss: Loss) -> None:
    student, teacher = pair()
    student.requires_grad_()
    mask = ragged()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher, mask), (student,))
    loss(student, teacher, mask).backward()
    assert student.grad is not None
    assert torch.equal(student.grad.abs().sum(-1) > 0, mask)


@pytest.mark.parametrize("loss", LOSSES)
def test_silence_has_a_finite_gradient(loss: Loss) -> None:
    student = torch.zeros(2, 4, 3, requires_grad=True)
    loss(student, torch.ones(2, 4, 3)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_fourth_dimension_is_refused(loss: Loss) -> None:
    with pytest.raises(InputError, match=r"expected \(batch, frames, width\), found \(3, 1, 7, 5"):
        loss(torch.zeros(3, 1, 7, 5), torch.zeros(3, 1, 7, 5))
    with pytest.raises(InputError, match="teacher features: expected"):
        loss(torch.zeros(3, 7, 5), torch.zeros(3, 6, 5))
    with pytest.raises(InputError, match=r"mask: expected \(3, 7\)"):
        loss(torch.zeros(3, 7, 5), torch.zeros(3, 7, 5), torch.ones(3, 6))


def test_the_fourth_dimension_would_void_the_loss() -> None:
    """Why it is refused: over an axis of size 1 the cosine only sees signs."""
    student, teacher = pair()
    cosine = torch.nn.functional.cosine_similarity(student[:, None], teacher[:, None], dim=1)
    torch.testing.assert_close(cosine, student.sign() * teacher.sign())


def test_pseudo_labels() -> None:
    labels = torch.randint(10, (3, 7), generator=torch.Generator().manual_seed(0))
    flat = torch.zeros(3, 7, 10)
    assert pseudo_label_loss(flat, labels).item() == pytest.approx(math.log(10))
    sure = 50.0 * torch.nn.functional.one_hot(labels, 10)
    mask = ragged()
    assert pseudo_label_loss(sure, labels).item() == pytest.approx(0)
    padded = torch.where(mask, labels, -100)
    torch.testing.assert_close(
        pseudo_label_loss(flat, padded, mask), pseudo_label_loss(flat, labels)
    )
    with pytest.raises(InputError, match="labels: expected 0 to 9, found -1"):
        pseudo_label_loss(flat, labels - labels.min() - 1)
    with pytest.raises(InputError, match="labels: expected"):
        pseudo_label_loss(flat, labels[:, 1:])


def test_masked_mean() -> None:
    features = torch.arange(7.0)[None, :, None].expand(3, 7, 2)
    assert masked_mean(features, ragged())[:, 0].tolist() == [3.0, 1.5, 0.5]
    assert masked_mean(features, torch.zeros(3, 7)).eq(0).all()


def test_global_contrast() -> None:
    alike = torch.ones(4, 6, 3)
    assert global_contrastive_loss(alike, alike).item() == pytest.approx(math.log(4))
    assert global_contrastive_loss(alike[:1], alike[:1]).item() == 0
    apart = torch.eye(4)[:, None].expand(4, 6, 4)
    expected = math.log(1 + 3 * math.exp(-2))
    assert global_contrastive_loss(apart, apart, temperature=0.5).item() == pytest.approx(expected)
    # An utterance without frames is no negative either.
    mask = torch.ones(4, 6)
    mask[3] = 0
    assert global_contrastive_loss(alike, alike, mask).item() == pytest.approx(math.log(3))
    with pytest.raises(InputError, match="temperature"):
        global_contrastive_loss(alike, alike, temperature=0)


def test_windowed_contrast() -> None:
    alike = torch.ones(1, 5, 3)
    # With one neighbour at each side the ends choose among two frames, the others among three.
    expected = (2 * math.log(2) + 3 * math.log(3)) / 5
    loss = windowed_contrastive_loss(alike, alike, window=1)
    assert loss.item() == pytest.approx(expected)
    apart = torch.eye(5)[None]
    expected = (2 * math.log(1 + math.exp(-2)) + 3 * math.log(1 + 2 * math.exp(-2))) / 5
    loss = windowed_contrastive_loss(apart, apart, window=1, temperature=0.5)
    assert loss.item() == pytest.approx(expected)
    with pytest.raises(InputError, match="window: expected at least 1"):
        windowed_contrastive_loss(alike, alike, window=0)
