import pytest
import torch

from kdlight.discrete.autoregressive import OracleAutoregressive, left_to_right
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.teachers.mixed import MixedTeacher

V = 4
TOKENS = torch.tensor([[0, 1, 3], [2, 2, 1]])


def model(seed, vocabulary=V):
    return OracleAutoregressive(HMMLanguage(3, vocabulary, 3, seed, 0.5, 0.5))


def test_means_of_laws():
    one, other = model(0)(TOKENS).exp(), model(1)(TOKENS).exp()
    arithmetic = MixedTeacher([model(0), model(1)], weights=[3, 1])
    torch.testing.assert_close(arithmetic(TOKENS).exp(), 0.75 * one + 0.25 * other)
    geometric = MixedTeacher([model(0), model(1)], combine="logits")(TOKENS).softmax(2)
    expected = (one * other).sqrt()
    torch.testing.assert_close(geometric, expected / expected.sum(2, keepdim=True))
    following = arithmetic.following(TOKENS[:, :2])
    torch.testing.assert_close(following, arithmetic(TOKENS)[:, 2])


def test_equal_teachers_are_one():
    torch.testing.assert_close(MixedTeacher([model(0), model(0)])(TOKENS), model(0)(TOKENS))
    start = torch.full((5, 3), V)
    drawn = [
        left_to_right(each, start, RowDraws(torch.arange(5), 0)).tokens
        for each in (MixedTeacher([model(0), model(0)]), model(0))
    ]
    assert torch.equal(*drawn)


def test_teachers_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"one vocabulary, found vocabularies \[4, 5\]"):
        MixedTeacher([model(0), model(0, 5)])
    with pytest.raises(InputError, match=r"weights: expected 2 numbers .* found \[1\]"):
        MixedTeacher([model(0), model(1)], weights=[1])
    with pytest.raises(InputError, match=r"found vocabularies \[4, 'Identity'\]"):
        MixedTeacher([model(0), torch.nn.Identity()])
