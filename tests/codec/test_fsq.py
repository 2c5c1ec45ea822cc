"""The grid of finite scalar quantisation, worked out."""

import math

import pytest
import torch

from kdlight.codec.fsq import FSQ
from kdlight.errors import InputError


def test_a_small_grid_has_the_values_of_the_paper() -> None:
    quantizer = FSQ(2, (3, 4))  # as many channels as levels: no linear map between
    assert not list(quantizer.parameters())
    z = torch.tensor([[-3.0, -0.3, 0.3, 0.6, 3.0, 0.0], [0.0, -3.0, 3.0, 0.6, -0.6, 0.1]])
    made = quantizer(z[None])
    # tanh(z) * 1.001 rounded; tanh(z + atanh(0.5 / 1.5015)) * 1.5015 - 0.5 rounded, over 2.
    shift = math.atanh(0.5 / 1.5015)
    second = [round(math.tanh(x + shift) * 1.5015 - 0.5) / 2 for x in z[1].tolist()]
    assert second == [0, -1, 0.5, 0.5, -0.5, 0]
    expected = torch.tensor([[-1.0, 0, 0, 1, 1, 0], second])
    torch.testing.assert_close(made.latents[0], expected)
    # Digits count from the lowest value, the first channel fastest.
    digits = [(0, 2), (1, 0), (1, 3), (2, 3), (2, 1), (1, 2)]
    assert made.codes[0, 0].tolist() == [a + 3 * b for a, b in digits]


@pytest.mark.parametrize("levels", [(3, 4), (5, 3, 4), (8, 5)])
def test_every_code_is_reached_and_has_one_value(levels: tuple[int, ...]) -> None:
    quantizer = FSQ(len(levels), levels)
    axis = torch.linspace(-4, 4, 161)
    z = torch.cartesian_prod(*[axis[:: 1 if len(levels) == 2 else 8]] * len(levels)).T[None]
    made = quantizer(z)
    assert quantizer.codebook_size == math.prod(levels)
    assert made.codes.unique().tolist() == list(range(math.prod(levels)))
    torch.testing.assert_close(quantizer.decode(made.codes), made.latents)
    values = quantizer.decode(torch.arange(math.prod(levels))[None, None])[0].T
    assert len(values.unique(dim=0)) == math.prod(levels)
    assert values.abs().max() <= 1
    for channel, count in enumerate(levels):
        assert len(values[:, channel].unique()) == count


def test_a_linear_map_takes_other_widths_to_the_grid_and_back() -> None:
    torch.manual_seed(0)
    quantizer = FSQ(16, (8, 5, 5, 5))
    made = quantizer(torch.randn(2, 16, 9))
    assert quantizer.codebook_size == 1000
    assert made.latents.shape == (2, 16, 9)
    assert made.codes.shape == (2, 1, 9)
    assert made.codes.dtype == torch.int64
    assert made.commitment_loss == made.codebook_loss == 0
    assert torch.equal(made.levels[0], made.latents)
    torch.testing.assert_close(quantizer.decode(made.codes), made.latents)


def test_rounding_passes_the_gradient_through() -> None:
    z = torch.tensor([[[0.0, 0.7]]]).requires_grad_()
    FSQ(1, (3,))(z).latents.sum().backward()
    expected = 1.001 * (1 - z.detach().tanh().square())
    torch.testing.assert_close(z.grad, expected)


def test_neither_training_nor_evaluation_moves_or_draws_anything() -> None:
    torch.manual_seed(0)
    quantizer = FSQ(4, (5, 5, 5))
    z = torch.randn(1, 4, 50)
    train, held = quantizer.train()(z), quantizer.eval()(z)
    assert torch.equal(train.latents, held.latents)
    assert torch.equal(quantizer.encode(z), train.codes)


@pytest.mark.parametrize("levels", [(), (5, 2), (1,)])
def test_a_channel_of_fewer_than_three_values_is_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^levels: expected at least 3 values a channel, found"):
        FSQ(4, levels)


def test_the_scalar_quantiser_has_one_level() -> None:
    with pytest.raises(InputError, match="n_q: expected 1 to 1 levels, found 2"):
        FSQ(4).forward(torch.zeros(1, 4, 3), 2)
