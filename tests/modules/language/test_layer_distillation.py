import pytest
import torch

from kdlight.errors import InputError
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.inside import inside, shown
from kdlight.surgery.families import anatomy_of
from kdlight.surgery.importance import measure
from kdlight.surgery.pruning import every, prune
from kdlight.training.optim import Optimization
from modules.language.structure.layer_distillation import (
    LayerDistillation,
    attention_loss,
    layers_for_one,
    state_loss,
)
from tests.surgery.networks import batches, model_of

TOKENS = batches()[0][0]
REAL = torch.arange(6) < torch.tensor([[6], [4], [2], [5]])


def second_layers(model, depth):
    """A model with evenly spaced layers of one."""
    anatomy = anatomy_of(model.network)
    found = measure(model, anatomy, batches())
    return prune(
        model, anatomy, {"layers": depth}, found.by_layers(every(anatomy.sizes.layers, depth))
    )


def losses(student, teacher):
    f = layers_for_one(shown(teacher), shown(student))
    with torch.no_grad():
        pair = inside(student, TOKENS), inside(teacher, TOKENS)
    return state_loss(*pair, f, REAL), attention_loss(*pair, f, REAL)


@pytest.mark.parametrize("kind", ["own", "llama", "qwen3", "gpt2"])
def test_the_inside_is_that_of_the_model(kind):
    model = shown(model_of(kind))
    found = inside(model, TOKENS)
    torch.testing.assert_close(found.logits, model(TOKENS), atol=1e-9, rtol=1e-9)
    assert (len(found.states), len(found.attention)) == (4, 3)
    sums = found.attention[1].sum(dim=3)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-6, rtol=0)
    assert found.attention[0].triu(1).abs().max() == 0


@pytest.mark.parametrize("kind", ["own", "llama", "gpt2"])
def test_a_student_that_is_the_teacher_has_nothing_to_learn(kind):
    model = model_of(kind)
    assert losses(model, model) == (0, 0)


def test_layers_that_do_nothing_are_not_missed():
    # Of four layers the first and the third are identities: their branches end in zero.
    with torch.no_grad():
        teacher = model_of("own")
        blocks = teacher.network.blocks
        blocks.append(type(blocks[0])(16, 4, 0.75, 0.0, True).double())
        teacher.network._init_args["depth"] = 4
        for block in (blocks[0], blocks[2]):
            for part in (block.project, block.mlp[2]):
                for weight in part.parameters():
                    weight.zero_()
    student = second_layers(teacher, 2)
    assert losses(student, teacher) == (0, 0)
    torch.testing.assert_close(student(TOKENS), teacher(TOKENS))
    blocks[0].project.weight.data.normal_(std=0.3)
    assert all(float(each) > 0 for each in losses(student, teacher))


def test_padding_is_not_looked_at_and_the_mean_is_of_what_is_seen():
    student, teacher = model_of("own", 1), model_of("own")
    with torch.no_grad():
        one, two = inside(shown(student), TOKENS), inside(shown(teacher), TOKENS)
    squares = [(a - b).square() for a, b in zip(one.attention, two.attention, strict=True)]
    seen = torch.ones(6, 6).tril().bool() & REAL[:, :, None]
    by_hand = torch.stack([each.mean(dim=1)[seen] for each in squares]).mean()
    torch.testing.assert_close(attention_loss(one, two, 1, REAL), by_hand)
    squares = [(a - b).square()[REAL] for a, b in zip(one.states, two.states, strict=True)]
    torch.testing.assert_close(state_loss(one, two, 1, REAL), torch.stack(squares).mean())


def test_outputs_are_learnt_only_where_it_is_said(monkeypatch):
    found = {}

    def step(**weights):
        method = LayerDistillation(
            model_of("own"), model_of("own", 1), ForwardKL(2.0, False), Optimization(), **weights
        )
        monkeypatch.setattr(method, "optimize", lambda name, loss: found.update(loss=loss))
        monkeypatch.setattr(method, "report", lambda terms: found.update(terms=terms))
        method.step({"tokens": TOKENS, "mask": REAL, "lengths": REAL.sum(dim=1)})
        return found["loss"], dict(found["terms"])

    loss, terms = step()
    assert set(terms) == {"states", "attention"}
    torch.testing.assert_close(loss, terms["states"] + terms["attention"])
    loss, terms = step(states=0.0, attention=0.0, prediction=1.0, likelihood=0.5)
    torch.testing.assert_close(loss, terms["distillation"] + 0.5 * terms["likelihood"])


def test_what_does_not_fit_is_named():
    deep = model_of("own")
    with pytest.raises(InputError, match="divides the teacher's 3, found 2"):
        layers_for_one(deep, second_layers(deep, 2))
    with pytest.raises(InputError, match=r"expected the teacher's width and heads \(16, 4\)"):
        other = prune(
            deep,
            anatomy_of(deep.network),
            {"heads": 2},
            measure(deep, anatomy_of(deep.network), batches()),
        )
        layers_for_one(deep, other)
