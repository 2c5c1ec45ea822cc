import pytest
import torch

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.training.optim import Optimization
from modules.language.structure.read_me import ReadMe
from tests.exactness.structure_cases import cut, read_me


def test_rounds_alternate_between_the_router_and_the_rest():
    method = read_me(rounds=2)
    assert method.iterations == 20
    found = []
    for method.iteration in (0, 3, 4, 9, 10, 19):
        found.append((method.describe_stage(), *method.stage()))
    assert found == [
        ("round 1, router", 0, 4),
        ("round 1, router", 3, 4),
        ("round 1, experts", 0, 6),
        ("round 1, experts", 5, 6),
        ("round 2, router", 0, 4),
        ("round 2, experts", 5, 6),
    ]


def test_each_half_of_a_round_has_a_gradient_for_its_own_part_alone():
    tokens = torch.randint(5, (3, 6))
    for routing in (True, False):
        method = read_me()
        loss = method.routing(tokens) if routing else method.student(tokens).logsumexp(dim=2)
        loss.sum().backward()
        for name, each in method.student.named_parameters():
            assert (each.grad is not None) == ((".router." in name) == routing), name
        assert all(each.grad is None for each in method.get_submodule("teacher").parameters())


def test_experts_of_another_network_are_refused():
    teacher, student = cut()
    wide = TokenTransformer(5, width=8, depth=1, heads=2, causal=True, ratio=8.0)
    with pytest.raises(InputError, match=r"expected the teacher's units \[64\], found \[32\]"):
        ReadMe(AutoregressiveModel(wide, 5, 6), student, Optimization())
    with pytest.raises(InputError, match="student: expected experts"):
        ReadMe(teacher, teacher, Optimization())
