"""The noise of lists, and the corrector at its start."""

import torch

from kdlight.networks.text.corrector import Corrector, PairCritic, noise_embedding


def corrector(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = Corrector(9, 4, 5, 16, 1, 2, **kwargs)
        one.word_vectors.normal_()
    return one


def lists(count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(9, (count, 5, 6), generator=generator)


def test_shape_rank_and_equal_hypotheses():
    vectors = torch.randn(2, 5, 6, 30, dtype=torch.float64)
    embedding = noise_embedding(vectors)
    assert embedding.shape == (2, 20, 30)
    for half in embedding.chunk(2, dim=1):
        assert (torch.linalg.matrix_rank(half) <= 4).all()
    same = vectors[:, :1].expand(-1, 5, -1, -1)
    assert not noise_embedding(same).any()


def test_exchanging_two_hypotheses_turns_their_row_and_permutes_the_rest():
    vectors = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    rows = noise_embedding(vectors)[0]  # pairs 10, 20, 21, twice
    swapped = noise_embedding(vectors[:, [1, 0, 2]])[0]
    for start in (0, 3):
        torch.testing.assert_close(swapped[start], -rows[start])
        torch.testing.assert_close(swapped[start + 1], rows[start + 2])
        torch.testing.assert_close(swapped[start + 2], rows[start + 1])


def test_the_half_of_words_is_a_difference_of_bags():
    words = torch.randn(3, 5, dtype=torch.float64)
    zero = torch.zeros(5, dtype=torch.float64)

    def of(first, second):
        stacked = [torch.stack(each) for each in (first, second)]
        return noise_embedding(torch.stack(stacked)[None])[0, 1]

    a, b, c = words
    torch.testing.assert_close(of([b, c], [a, c]), a - b)  # a substitution
    torch.testing.assert_close(of([zero, c], [a, c]), a)  # a deletion
    # Another alignment, and another order of words, say the same.
    torch.testing.assert_close(of([c, zero], [a, c]), a)
    torch.testing.assert_close(of([c, b], [a, c]), a - b)


def test_it_starts_as_the_first_hypothesis_and_blind_to_noise():
    one = corrector()
    heard = lists()
    logits = one(heard, one.noise(heard))
    assert torch.equal(logits.argmax(dim=-1), heard[:, 0])
    with torch.no_grad():
        one.head.weight.normal_()
    assert torch.equal(one(heard, one.noise(heard)), one(heard, None))
    with torch.no_grad():
        one.gate.fill_(1.0)
    assert not torch.equal(one(heard, one.noise(heard)), one(heard, None))


def test_a_critic_is_bounded():
    critic = PairCritic(16, 3, 8, bound=2.0)
    scores = critic(1e4 * torch.randn(50, 20, 16), 1e4 * torch.randn(50, 3))
    assert scores.abs().max() <= 2
