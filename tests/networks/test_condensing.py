import pytest
import torch
from torch import nn

from kdlight.core.spec import build, spec_of
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.condensing import Condensing
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.teachers.tokens import condensing_student

CONTEXT, LENGTH = 4, 7


def served():
    torch.manual_seed(0)
    network = TokenTransformer(5, width=8, depth=2, heads=2, causal=True)
    nn.init.normal_(network.head.weight)
    return network


def model(vectors=2):
    network = Condensing(served(), CONTEXT, vectors, width=12, depth=1, heads=2)
    return AutoregressiveModel(network, 5, LENGTH)


TOKENS = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [1, 1, 0, 2, 2, 3, 4]])


def test_vectors_that_are_the_demonstrations_own_give_the_models_law():
    found, whole = model(vectors=CONTEXT), AutoregressiveModel(served(), 5, LENGTH)
    found.network.condensed = lambda tokens: found.network.network.embedding(tokens)
    assert torch.equal(found(TOKENS)[:, CONTEXT:], whole(TOKENS)[:, CONTEXT:])


def test_what_follows_is_what_the_whole_row_says_there_and_sees_no_future():
    found = model()
    logits = found(TOKENS)
    assert torch.equal(logits[:, :CONTEXT], torch.zeros(2, CONTEXT, 5))
    for place in range(LENGTH):
        torch.testing.assert_close(found.following(TOKENS[:, :place]), logits[:, place])
    other = TOKENS.clone()
    other[:, 0] = 3
    assert ((found(other) - logits).abs().amax(dim=2)[:, CONTEXT:] > 0).all()
    other = TOKENS.clone()
    other[:, 5] = 1
    moved = (found(other) - logits).abs().amax(dim=2)
    assert (moved[:, :6] == 0).all()
    assert (moved[:, 6] > 0).all()


def test_the_served_model_has_no_gradient_and_stays_at_rest():
    found = model().train()
    assert not found.network.network.training
    found(TOKENS)[:, CONTEXT:].logsumexp(dim=2).sum().backward()
    assert all(each.grad is None for each in found.network.network.parameters())
    own = [each for each in found.parameters() if each.requires_grad]
    assert len(own) == len(list(found.parameters())) - len(list(served().parameters()))
    assert all(float(each.grad.abs().sum()) > 0 for each in own)


def test_a_file_holds_the_served_model_too():
    found = model()
    again = build(spec_of(found))
    again.load_state_dict(found.state_dict())
    assert torch.equal(again(TOKENS), found(TOKENS))


def test_a_student_of_vectors_is_made_of_a_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(AutoregressiveGenerator(AutoregressiveModel(served(), 5, LENGTH)), path)
    found = condensing_student(str(path), CONTEXT, 2, width=12, depth=1, heads=2)
    assert found(TOKENS).shape == (2, LENGTH, 5)
    assert torch.equal(found.network.network.head.weight, served().head.weight)
    with pytest.raises(InputError, match="context: expected less than 7 tokens, found 7"):
        condensing_student(str(path), 7, 2)
    save_model(AutoregressiveGenerator(model()), path)
    with pytest.raises(InputError, match="expected a TokenTransformer, found Condensing"):
        condensing_student(str(path), CONTEXT, 2)
