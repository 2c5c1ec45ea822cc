import pytest
import torch
from torch import nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.losses.language.mixers import matrix_distance, state_distance
from kdlight.networks.text.state_space import (
    StateSpaceMixer,
    StateSpaceModel,
    chunked_scan,
    mixing_matrix,
)

B, H, T, N, P = 2, 3, 11, 4, 5


def drawn(seed=0):
    source = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    decay = nn.functional.logsigmoid(normal(B, H, T))
    return normal(B, H, T, N), normal(B, H, T, N), normal(B, H, T, P), decay, normal(H)


def recurrent(reads, writes, values, decay, skip):
    """The definition: one position after another."""
    state, found = torch.zeros(B, H, N, P, dtype=torch.float64), []
    for t in range(T):
        written = writes[:, :, t, :, None] * values[:, :, t, None, :]
        state = state * decay[:, :, t, None, None].exp() + written
        read = (reads[:, :, t, :, None] * state).sum(dim=2)
        found.append(read + skip[:, None] * values[:, :, t])
    return torch.stack(found, dim=2)


@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 64])
def test_chunks_the_matrix_and_the_recurrence_are_one(chunk):
    reads, writes, values, decay, skip = drawn()
    expected = recurrent(reads, writes, values, decay, skip)
    matrix = mixing_matrix(reads, writes, decay, skip)
    assert torch.equal(matrix, matrix.tril())
    torch.testing.assert_close(matrix @ values, expected, rtol=0, atol=1e-12)
    found = chunked_scan(reads, writes, values, decay, skip, chunk)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_gradients_of_the_chunks_are_those_of_the_matrix_where_decays_forget_all():
    parts = [part.requires_grad_() for part in drawn()]
    parts[3].data[:, :, ::3] = -800  # exp(-800) is 0, exp(800) is no number
    weight = torch.randn(B, H, T, P, dtype=torch.float64)
    reads, writes, values, decay, skip = parts
    by_chunks = torch.autograd.grad((chunked_scan(*parts, 4) * weight).sum(), parts)
    whole = (mixing_matrix(reads, writes, decay, skip) @ values * weight).sum()
    for found, expected in zip(by_chunks, torch.autograd.grad(whole, parts), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_a_state_of_the_sequences_length_holds_any_causal_matrix_and_its_distance_is_0():
    wanted = torch.randn(1, 2, T, T, dtype=torch.float64).tril()
    one_hot = torch.eye(T, dtype=torch.float64).expand(1, 2, T, T)
    remembers = torch.zeros(1, 2, T, dtype=torch.float64)
    reads = wanted.clone().requires_grad_()
    skip = torch.zeros(2, dtype=torch.float64)
    found = mixing_matrix(reads, one_hot, remembers, skip)
    assert torch.equal(found, wanted)
    distance = matrix_distance(found, wanted, torch.ones(1, T, dtype=torch.bool))
    assert distance.tolist() == [[0, 0]]
    (gradient,) = torch.autograd.grad(distance.sum(), reads)
    assert torch.equal(gradient, torch.zeros_like(gradient)), "no NaN at an exact student"


def test_a_small_state_stays_away_from_a_matrix_by_its_lower_left_blocks_last_values():
    wanted = torch.randn(1, 1, T, T, dtype=torch.float64).tril()
    half = T // 2
    values = torch.linalg.svdvals(wanted[0, 0, half:, :half])
    bound = values[N:].square().sum().sqrt()
    assert bound > 0
    rows = torch.ones(1, T, dtype=torch.bool)
    reads, writes, _, decay, skip = (part[:1] for part in drawn())
    reads, writes, decay = (part[:, :1].requires_grad_() for part in (reads, writes, decay))
    optimizer = torch.optim.LBFGS([reads, writes], max_iter=60, line_search_fn="strong_wolfe")

    def distance():
        optimizer.zero_grad()
        loss = matrix_distance(mixing_matrix(reads, writes, decay, skip[:1]), wanted, rows).sum()
        loss.backward()
        return loss

    first = float(distance())
    optimizer.step(distance)
    assert float(bound) <= float(distance()) < first


def test_distances_by_hand_and_rows_that_do_not_count():
    student = torch.zeros(1, 1, 2, 2)
    teacher = torch.tensor([[[[3.0, 0], [0, 4.0]]]])
    assert matrix_distance(student, teacher, torch.ones(1, 2, dtype=torch.bool)).item() == 5
    assert matrix_distance(student, teacher, torch.tensor([[True, False]])).item() == 3
    states = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    assert state_distance(states, torch.zeros(1, 2, 2)).tolist() == [[5, 0]]


def test_a_mixer_begins_as_what_goes_out_of_its_matrix_times_its_values():
    torch.manual_seed(0)
    mixer = StateSpaceMixer(8, heads=2, head_width=4, taps=4, chunk=3).double()
    tokens = torch.randn(2, T, 8, dtype=torch.float64)
    values = mixer.qkv(tokens).chunk(3, dim=2)[2].unflatten(2, (2, 4)).transpose(1, 2)
    mixed = (mixer.matrix(tokens) @ values).transpose(1, 2).flatten(2)
    # The bias at which the gate is 1 is held in float32.
    torch.testing.assert_close(mixer(tokens), mixer.project(mixed), rtol=0, atol=1e-7)


def test_the_network_sees_no_future_and_chunks_change_nothing():
    torch.manual_seed(0)
    network = StateSpaceModel(5, width=8, depth=2, heads=2, chunk=64)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    small = StateSpaceModel(5, width=8, depth=2, heads=2, chunk=2)
    small.load_state_dict(network.state_dict())
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0]])
    changed = tokens.clone()
    changed[0, 4] = 1
    torch.testing.assert_close(small(tokens), network(tokens))
    assert torch.equal(network(tokens)[:, :4], network(changed)[:, :4])
    assert not torch.allclose(network(tokens)[:, 4:], network(changed)[:, 4:])
    model = AutoregressiveModel(network, 5, 6)
    torch.testing.assert_close(model.following(tokens[:, :3]), model(tokens)[:, 3])
