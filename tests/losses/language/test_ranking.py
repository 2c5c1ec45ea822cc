import pytest
import torch

from kdlight.losses.language.ranking import (
    LabelsAlone,
    ListKL,
    MarginMSE,
    PointwiseMSE,
    margin_squares,
)

STUDENT = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
TEACHER = torch.tensor([[10.0, 7.0], [8.0, 8.5]], dtype=torch.float64)
ALL = torch.ones(2, 2, dtype=torch.bool)


def value(objective, student=STUDENT, teacher=TEACHER, mask=ALL) -> float:
    found = objective(student, teacher, mask)
    return float((found.values * found.weights).sum() / found.weights.sum())


def test_margins_by_hand_do_not_see_a_shift_of_a_query_but_its_scale():
    assert value(MarginMSE()) == pytest.approx(0.625)
    assert value(PointwiseMSE()) == pytest.approx(44.0625)
    shift = torch.tensor([[5.0], [-2.0]])
    assert value(MarginMSE(), teacher=TEACHER + shift) == pytest.approx(0.625)
    assert value(PointwiseMSE(), teacher=TEACHER + shift) != pytest.approx(44.0625)
    assert value(MarginMSE(), student=2 * STUDENT) != pytest.approx(0.625)


@pytest.mark.parametrize("objective", [MarginMSE(), PointwiseMSE(), LabelsAlone(), ListKL()])
def test_a_passage_that_is_not_there_does_not_count(objective):
    filled = [torch.cat([each, torch.full((2, 1), 9.0)], 1).double() for each in (STUDENT, TEACHER)]
    mask = torch.tensor([[True, True, False]]).expand(2, 3)
    assert value(objective, *filled, mask) == pytest.approx(value(objective))
    student = filled[0].requires_grad_(True)
    found = objective(student, filled[1], mask)
    (gradient,) = torch.autograd.grad((found.values * found.weights).sum(), student)
    assert gradient.isfinite().all()
    assert gradient[:, 2].tolist() == [0, 0]


def test_margins_are_a_mean_over_pairs_and_zero_at_the_teachers():
    assert margin_squares(TEACHER, TEACHER).tolist() == [[0], [0]]
    three = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    zero = torch.zeros_like(three)
    assert value(MarginMSE(), three, zero, mask) == pytest.approx((1 + 4 + 9) / 3)
    each = torch.log_softmax(STUDENT, 1)[:, 0]
    assert value(LabelsAlone()) == pytest.approx(float(-each.mean()))
    assert value(ListKL(), TEACHER, TEACHER) == 0


def test_a_linear_student_reaches_zero_by_least_squares_on_differences():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 3, 12, generator=generator, dtype=torch.float64)
    teacher = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    differences = (features[:, :1] - features[:, 1:]).flatten(0, 1)
    wanted = (teacher[:, :1] - teacher[:, 1:]).flatten()
    weights = torch.linalg.lstsq(differences, wanted[:, None]).solution[:, 0]
    assert margin_squares(features @ weights, teacher).max() < 1e-20
