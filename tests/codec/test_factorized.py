"""Factorised codes against the formula of the paper, written out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlight.codec.factorized import FactorizedVQ

DIM, LEVELS, SIZE, INNER = 6, 3, 16, 4


def make() -> FactorizedVQ:
    torch.manual_seed(0)
    return FactorizedVQ(DIM, LEVELS, SIZE, codebook_dim=INNER)


def latents() -> Tensor:
    return torch.randn(2, DIM, 20, generator=torch.Generator().manual_seed(3))


def by_hand(quantizer: FactorizedVQ, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, codes, commitment and codebook loss as DAC defines them, over levels the mean."""
    total, left = torch.zeros_like(z), z
    codes, commitments, pulls = [], [], []
    for layer in quantizer.layers:
        inner = F.conv1d(left, layer.project_in.weight, layer.project_in.bias)
        rows = layer.codebook.weight
        cosine = torch.einsum(
            "bdf,kd->bfk",
            inner / inner.norm(dim=1, keepdim=True),
            rows / rows.norm(dim=1, keepdim=True),
        )
        code = cosine.argmax(dim=2)
        vector = rows[code].transpose(1, 2)
        commitments.append(F.mse_loss(inner, vector.detach()))
        pulls.append(F.mse_loss(vector, inner.detach()))
        straight = inner + (vector - inner).detach()
        out = F.conv1d(straight, layer.project_out.weight, layer.project_out.bias)
        total, left = total + out, left - out
        codes.append(code)
    losses = torch.stack(commitments).mean(), torch.stack(pulls).mean()
    return total, torch.stack(codes, dim=1), *losses


def test_values_and_gradients_are_those_of_the_formula() -> None:
    quantizer = make()
    z = latents().requires_grad_()
    made, hand = quantizer(z), by_hand(quantizer, z)
    assert torch.equal(made.codes, hand[1])
    inputs = [z, *quantizer.parameters()]
    for found, expected in (
        (made.latents, hand[0]),
        (made.commitment_loss, hand[2]),
        (made.codebook_loss, hand[3]),
    ):
        torch.testing.assert_close(found, expected)
        a, b = (
            torch.autograd.grad(x.square().sum(), inputs, retain_graph=True, allow_unused=True)
            for x in (found, expected)
        )
        for mine, theirs in zip(a, b, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_codes_are_nearest_by_angle_whatever_the_lengths() -> None:
    quantizer = make()
    codes = quantizer.encode(latents(), 1)
    with torch.no_grad():
        layer = quantizer.layers[0]
        layer.codebook.weight.mul_(torch.rand(SIZE, 1) * 10 + 0.1)
        layer.project_in.bias.zero_()
    before = quantizer.encode(latents(), 1)
    assert torch.equal(quantizer.encode(latents() * 7, 1), before)
    assert torch.equal(make().encode(latents(), 1), codes)


def test_each_loss_pulls_its_own_side() -> None:
    quantizer = make()
    z = latents().requires_grad_()
    made = quantizer(z, 1)
    rows, inner = quantizer.layers[0].codebook.weight, quantizer.layers[0].project_in.bias
    for loss, reached, untouched in (
        (made.commitment_loss, [z, inner], [rows]),
        (made.codebook_loss, [rows], [z, inner]),
    ):
        gradients = torch.autograd.grad(
            loss, reached + untouched, retain_graph=True, allow_unused=True
        )
        assert all(each.abs().max() > 0 for each in gradients[: len(reached)])
        assert all(each is None for each in gradients[len(reached) :])


def test_a_later_level_reaches_the_encoder_past_the_earlier_ones() -> None:
    quantizer = make()
    z = latents().requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(z).levels[-1].sum(), z)
    # (1 - W_out W_in) of every level before, then its own W_out W_in.
    chain = torch.eye(DIM)
    for layer in quantizer.layers[:-1]:
        step = layer.project_out.weight[..., 0] @ layer.project_in.weight[..., 0]
        chain = (torch.eye(DIM) - step) @ chain
    last = quantizer.layers[-1]
    chain = last.project_out.weight[..., 0] @ last.project_in.weight[..., 0] @ chain
    expected = chain.sum(dim=0)[None, :, None].expand_as(z)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_autocast_takes_no_code_for_another() -> None:
    torch.manual_seed(0)
    layer = FactorizedVQ(DIM, 1, 512, codebook_dim=INNER).layers[0]
    projected = torch.randn(2, INNER, 200)
    codes = layer.look_up(projected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.look_up(projected), codes)


def test_codes_do_not_move_without_an_optimizer() -> None:
    quantizer = make().train()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(latents())
    after = quantizer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
