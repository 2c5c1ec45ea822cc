import torch
from torch import nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.encoder_decoder import EncoderDecoder

SOURCE, LENGTH = 4, 7


def model(padding=None):
    torch.manual_seed(0)
    network = EncoderDecoder(5, SOURCE, 8, encoder_depth=1, depth=2, heads=2, padding=padding)
    nn.init.normal_(network.head.weight)
    return AutoregressiveModel(network, 5, LENGTH)


def changed(tokens, place):
    other = tokens.clone()
    other[:, place] = (other[:, place] + 1) % 5
    return other


def test_a_token_sees_all_of_the_source_and_of_the_answer_what_stands_before_it():
    found = model()
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1]])
    logits = found(tokens)
    assert logits.shape == (1, LENGTH, 5)
    for place in range(SOURCE):
        moved = (found(changed(tokens, place)) - logits).abs().amax(dim=2)[0]
        assert (moved[SOURCE:] > 0).all()
        assert (moved[:SOURCE] == 0).all()
    for place in range(SOURCE, LENGTH):
        moved = (found(changed(tokens, place)) - logits).abs().amax(dim=2)[0]
        assert (moved[: place + 1] == 0).all(), "a shift of one would train and be wrong"
        assert (moved[place + 1 :] > 0).all()


def test_what_follows_is_what_the_whole_row_says_there():
    found = model()
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [1, 1, 0, 2, 2, 3, 4]])
    for place in range(LENGTH):
        torch.testing.assert_close(found.following(tokens[:, :place]), found(tokens)[:, place])
    assert torch.equal(found(tokens)[:, :SOURCE], torch.zeros(2, SOURCE, 5))


def test_padding_of_the_source_is_not_looked_at_wherever_it_stands():
    padded, seen = model(padding=4), model()
    tokens = torch.tensor([[0, 1, 4, 4, 2, 0, 1]])
    assert not torch.allclose(padded(tokens), seen(tokens))
    other = model(padding=4)
    with torch.no_grad():
        other.network.embedding.weight[4] = 100.0
    assert torch.equal(other(tokens), padded(tokens))


def test_a_loss_of_answers_does_not_hear_what_stands_elsewhere():
    found, objective = model(), ForwardKL()
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1]])
    mask = torch.arange(LENGTH)[None] >= SOURCE
    teacher = torch.randn(1, LENGTH, 5)
    each = objective(found(tokens), teacher, tokens, mask)
    other = teacher.masked_fill(~mask[..., None], 7.0)
    assert torch.equal(objective(found(tokens), other, tokens, mask), each)
    own = found(tokens).detach()
    assert float(objective(found(tokens), own, tokens, mask).abs().sum()) < 1e-6
    assert float(objective(found(tokens), own.roll(1, dims=1), tokens, mask).sum()) > 0.1
