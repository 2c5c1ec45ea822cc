import math

import pytest
import torch

from kdlight.losses.language.contrastive import clip_loss, info_nce, similarity_kl


def drawn(seed, rows=6, width=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def test_orthogonal_pairs_have_the_loss_of_their_number():
    perfect = 3 * torch.eye(5, dtype=torch.float64)
    expected = math.log(1 + 4 * math.exp(-10))
    torch.testing.assert_close(
        clip_loss(perfect, 2 * perfect, 10.0), torch.full((5,), expected).double()
    )


def test_clip_takes_both_sides_alike():
    one, two = drawn(0), drawn(1)
    torch.testing.assert_close(clip_loss(one, two, 7.0), clip_loss(two, one, 7.0))


def test_only_other_classes_are_negatives():
    # Orthogonal classes, identical features: log(1 + n e^(-1 / T)), n being those of other classes.
    classes = torch.tensor([0, 0, 1, 2, 2])
    features = torch.eye(3, dtype=torch.float64)[classes]
    others = torch.tensor([3.0, 3.0, 4.0, 3.0, 3.0]).double()
    found = info_nce(features, features, 0.5, classes)
    torch.testing.assert_close(found, (1 + others * math.exp(-2)).log())
    assert info_nce(drawn(0), drawn(1), 0.07, torch.zeros(6).long()).abs().max() == 0


def test_a_column_of_the_same_class_gets_exactly_no_gradient():
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    others = drawn(1).requires_grad_()
    info_nce(drawn(0), others, 0.07, classes)[0].backward()
    assert others.grad is not None
    assert others.grad[1].abs().max() == 0
    assert all(others.grad[row].abs().max() > 0 for row in (0, 2, 3, 4, 5))


def test_the_gradient_is_that_of_differences():
    one, two = drawn(0).requires_grad_(), drawn(1).requires_grad_()
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda a, b: clip_loss(a, b, 3.0), (one, two))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.3, classes), (one, two))


def test_a_law_of_partners_is_learnt_from_another_width():
    taught, student = (drawn(0, width=8), drawn(1, width=8)), (drawn(2), drawn(3))
    assert similarity_kl(student, student, 10.0).abs().max() < 1e-12
    assert bool((similarity_kl(taught, student, 10.0) > 0).all())
    leaf = drawn(4, width=8).requires_grad_()
    own = drawn(2).requires_grad_()
    similarity_kl((leaf, leaf), (own, student[1]), 10.0).sum().backward()
    assert leaf.grad is None
    assert own.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_widened(dtype):
    assert clip_loss(drawn(0).to(dtype), drawn(1).to(dtype), 10.0).dtype == torch.float32
