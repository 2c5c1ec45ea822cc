import pytest
import torch
from torch import nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.state_space import StateSpaceModel
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.training.optim import Optimization
from modules.language.structure.mohawk import MOHAWK
from tests.exactness.harness import fit
from tests.exactness.structure_cases import mohawk, ragged


def pair(depth=2, width=8, heads=2, causal=True, **student):
    torch.manual_seed(0)
    teacher = TokenTransformer(5, width=8, depth=2, heads=2, causal=causal)
    nn.init.normal_(teacher.head.weight)
    small = StateSpaceModel(5, width=width, depth=depth, heads=heads, **student)
    return AutoregressiveModel(teacher, 5, 6), AutoregressiveModel(small, 5, 6)


def made(*models, iterations=20, **kwargs):
    return MOHAWK(*models, ForwardKL(), Optimization(lr=3e-3), iterations, **kwargs)


def test_a_blocks_matrix_is_what_its_attention_multiplies_by():
    teacher, _ = pair()
    block = teacher.network.blocks[0]
    hidden = torch.randn(2, 6, 8)
    angles = teacher.network.angles(torch.zeros(2, 6))
    normed = block.attention_norm(hidden)
    values = block.qkv(normed).chunk(3, dim=2)[2].unflatten(2, (2, 4)).transpose(1, 2)
    mixed = block.mixing_matrix(normed, angles) @ values
    found = block.fed(hidden + block.project(mixed.transpose(1, 2).flatten(2)))
    torch.testing.assert_close(found, block(hidden, angles))


def test_all_that_is_no_mixer_is_the_teachers_and_mixers_begin_as_its_projections():
    teacher, student = pair()
    made(teacher, student, matrix_iterations=5, state_iterations=5)
    old, new = teacher.network, student.network
    for name in ("embedding.weight", "head.weight", "norm.bias", "blocks.1.mlp.0.weight"):
        assert torch.equal(new.get_parameter(name), old.get_parameter(name))
    assert torch.equal(new.blocks[1].mixer.qkv.weight, old.blocks[1].qkv.weight)


def test_stages_train_mixers_alone_and_each_from_its_own_layers_error():
    teacher, student = pair()
    method = made(teacher, student, matrix_iterations=5, state_iterations=5)
    tokens = torch.randint(5, (3, 6))
    states, _ = method.teacher_states(tokens)
    torch.testing.assert_close(
        teacher.network.head(teacher.network.norm(states[-1])), teacher(tokens)
    )
    mixer, block, given, wanted = method.layers(states)[0]
    normed = block.attention_norm(given)
    (block.fed(given + mixer(normed)) - wanted).square().sum().backward()
    reached = {name for name, each in student.named_parameters() if each.grad is not None}
    assert reached == {
        f"network.blocks.0.mixer.{name}"
        for name, _ in student.network.blocks[0].mixer.named_parameters()
    }
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_stages_follow_each_other_with_schedules_of_their_own():
    method = made(*pair(), matrix_iterations=3, state_iterations=5)
    found = []
    for method.iteration in (0, 2, 3, 7, 8, 19, 20):
        found.append((method.describe_stage(), *method.stage()))
    assert found == [
        ("matrices", 0, 3),
        ("matrices", 2, 3),
        ("states", 0, 5),
        ("states", 4, 5),
        ("outputs", 0, 12),
        ("outputs", 11, 12),
        ("outputs", 12, 12),
    ]
    alone = made(*pair(), matrix_iterations=0, state_iterations=0)
    assert (alone.describe_stage(), *alone.stage()) == ("outputs", 0, 20)


def test_in_the_first_stages_only_mixers_move():
    method = mohawk()
    before = {name: each.clone() for name, each in method.student.named_parameters()}
    method.iterations = 4
    fit(method, ragged())
    moved = {
        name for name, each in method.student.named_parameters() if (each != before[name]).any()
    }
    assert moved
    assert all(".mixer." in name for name in moved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": 1}, "expected the teacher's"),
        ({"depth": 3}, "student: expected a depth of 2, found 3."),
        ({"width": 16, "heads": 2}, "expected the teacher's"),
        ({"causal": False}, "teacher: expected a causal TokenTransformer"),
    ],
)
def test_networks_that_are_no_pair_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        made(*pair(**changes))


def test_stages_that_leave_nothing_for_the_last_are_refused():
    with pytest.raises(InputError, match="less than the 20 iterations together, found 10 and 10"):
        made(*pair(), matrix_iterations=10, state_iterations=10)
    teacher, _ = pair()
    with pytest.raises(InputError, match="student: expected a StateSpaceModel"):
        made(teacher, teacher)
