import pytest
import torch

from kdlight.errors import InputError
from kdlight.losses.language.matching import (
    HiddenStates,
    MutualInformation,
    Relations,
    layer_pairs,
)
from kdlight.losses.language.relations import relation_kl, self_relations

MASK = torch.arange(5) < torch.tensor([[5], [2], [1]])


def states(seed: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 5, width, generator=generator, dtype=torch.float64)


def test_relations_by_hand():
    one = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [9.0, 9.0]]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    found = self_relations(one, mask, 1).exp()[0, 0]
    first = torch.tensor([4.0, 0.0], dtype=torch.float64) / 2**0.5
    assert torch.allclose(found[0, :2], first.softmax(0))
    assert found[:, 2].tolist() == [0, 0, 0]
    # Two heads of one channel each: the second sees the first token as 0.
    assert torch.allclose(
        self_relations(one, mask, 2).exp()[0, 1, 0, :2], torch.full((2,), 0.5).double()
    )


def test_relations_do_not_see_a_rotation_and_padding_does_not_matter():
    teacher = states(0, 4)
    turn, _ = torch.linalg.qr(states(1, 5)[0][:4, :4])
    assert relation_kl(teacher @ turn, teacher, MASK, 1)[MASK].abs().max() < 1e-12
    student = states(2, 6).requires_grad_(True)
    found = relation_kl(student, teacher, MASK, 1)
    assert (found[MASK] > -1e-12).all()
    assert found[2, 0] == 0  # a token alone relates to itself
    moved = torch.where(MASK[..., None], student, student + 7)
    assert torch.equal(relation_kl(moved, teacher, MASK, 1)[MASK], found[MASK])
    (gradient,) = torch.autograd.grad(found[MASK].sum(), student)
    assert gradient.isfinite().all()
    assert gradient[~MASK].abs().max() == 0


@pytest.mark.parametrize(
    "part", [HiddenStates(), HiddenStates("cosine"), Relations(2), MutualInformation(0.5)]
)
def test_padding_does_not_matter_to_any_part(part):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        match = part.between(6, 4).double()
    student, teacher = states(0, 6), states(1, 4)
    found = match(student, teacher, MASK)
    filled = match(
        torch.where(MASK[..., None], student, 5.0),
        torch.where(MASK[..., None], teacher, -3.0),
        MASK,
    )
    assert torch.allclose(found, filled, rtol=0, atol=1e-12)


def test_hidden_states_are_a_mean_over_tokens():
    match = HiddenStates().between(4, 4)
    torch.nn.init.eye_(match.projection.weight)
    teacher = states(1, 4).float()
    student = teacher + 2 * MASK[..., None]
    assert float(match(student, teacher, MASK)) == pytest.approx(4.0, rel=1e-5)
    cosine = HiddenStates("cosine").between(4, 4)
    torch.nn.init.eye_(cosine.projection.weight)
    assert float(cosine(3 * teacher, teacher, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(cosine(-teacher, teacher, MASK)) == pytest.approx(2, abs=1e-6)


def test_layers_are_paired_and_what_does_not_exist_is_refused():
    assert list(layer_pairs(2, 6, "skip")) == [(1, 3), (2, 6)]
    assert list(layer_pairs(2, 6, "last")) == [(1, 5), (2, 6)]
    assert list(layer_pairs(2, 6, [(0, 0), (2, 6)])) == [(0, 0), (2, 6)]
    with pytest.raises(InputError, match="at most the teacher's 2 layers, found 3"):
        layer_pairs(3, 2, "skip")
    with pytest.raises(InputError, match="found 3 and 6"):
        layer_pairs(2, 6, [(3, 6)])
    with pytest.raises(InputError, match="divisor of the teacher's width 4, found 3"):
        Relations(3).between(6, 4)
