"""Residual and split quantisers: sums, prefixes, gradients, dropout by item, ranks."""

import copy

import pytest
import torch
from torch import Tensor

from kdlight.codec.factorized import FactorizedVQ
from kdlight.codec.quantization import Quantizer, ResidualVQ, SplitResidualVQ
from kdlight.errors import InputError

DIM, LEVELS, SIZE = 6, 4, 16


def make(kind: str) -> Quantizer:
    """A small quantiser after some training batches."""
    torch.manual_seed(0)
    quantizer: Quantizer = {
        "residual": lambda: ResidualVQ(DIM, LEVELS, SIZE),
        "split": lambda: SplitResidualVQ(DIM, LEVELS, SIZE, codebook_dim=5),
        "factorized": lambda: FactorizedVQ(DIM, LEVELS, SIZE, codebook_dim=3),
    }[kind]()
    for seed in range(3):
        quantizer(latents(seed))
    return quantizer.eval()


def latents(seed: int = 7, items: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(items, DIM, 20, generator=generator, dtype=dtype)


each_kind = pytest.mark.parametrize("kind", ["residual", "split", "factorized"])


@each_kind
def test_shapes_are_those_of_the_interface(kind: str) -> None:
    quantizer = make(kind)
    made = quantizer(latents())
    assert made.latents.shape == (3, DIM, 20)
    assert made.codes.shape == (3, LEVELS, 20)
    assert made.codes.dtype == torch.int64
    assert made.commitment_loss.shape == made.codebook_loss.shape == ()
    assert [level.shape for level in made.levels] == [(3, DIM, 20)] * LEVELS
    assert (made.codebook_loss > 0) == (kind == "factorized")


@each_kind
def test_decoding_what_was_encoded_sums_the_levels(kind: str) -> None:
    quantizer = make(kind)
    made = quantizer(latents())
    codes = quantizer.encode(latents())
    assert torch.equal(codes, made.codes)
    torch.testing.assert_close(quantizer.decode(codes), made.latents)
    torch.testing.assert_close(torch.stack(made.levels).sum(dim=0), made.latents)


@each_kind
@pytest.mark.parametrize("count", range(1, LEVELS + 1))
def test_codes_of_fewer_levels_are_the_first_of_all(kind: str, count: int) -> None:
    quantizer = make(kind)
    codes = quantizer.encode(latents(), count)
    assert torch.equal(codes, quantizer.encode(latents())[:, :count])
    made = quantizer(latents(), count)
    assert torch.equal(made.codes, codes)
    assert len(made.levels) == count
    torch.testing.assert_close(quantizer.decode(codes), made.latents)


@each_kind
def test_every_level_lowers_the_distance_to_training_data(kind: str) -> None:
    if kind == "factorized":
        pytest.skip("learned by gradient, which these few batches did not take")
    quantizer = make(kind)
    held = latents(0)
    if isinstance(quantizer, SplitResidualVQ):
        # Of its own projection: what the acoustic branch is there to approach.
        quantizer, held = quantizer.acoustic, quantizer.project_in[1](held).detach()
    distances = [
        (held - quantizer.decode(quantizer.encode(held, count))).square().mean()
        for count in range(1, quantizer.n_q + 1)
    ]
    assert distances == sorted(distances, reverse=True)


def test_every_level_takes_the_code_nearest_to_what_is_left() -> None:
    quantizer = make("residual")
    left = latents().double()
    codes = quantizer.encode(latents())
    for level, layer in enumerate(quantizer.layers):
        rows = layer.codebook.double()
        distance = (left.transpose(1, 2)[:, :, None] - rows).square().sum(dim=-1)
        assert torch.equal(codes[:, level], distance.argmin(dim=-1))
        left = left - rows[codes[:, level]].transpose(1, 2)


def parts(quantizer: Quantizer, z: Tensor, codes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What each level of a residual quantiser was given, and what it made of it."""
    given, found, left = [], [], z.detach()
    for level, layer in enumerate(quantizer.layers):
        given.append(left)
        found.append(layer.codebook.to(z.dtype)[codes[:, level]].transpose(1, 2))
        left = left - found[-1]
    return given, found


def test_the_commitment_of_every_level_reaches_the_encoder() -> None:
    quantizer = make("residual")
    z = latents(items=2, dtype=torch.float64).requires_grad_()
    made = quantizer(z)
    given, found = parts(quantizer, z, made.codes)
    losses = [(g - f).square().mean() for g, f in zip(given, found, strict=True)]
    torch.testing.assert_close(made.commitment_loss, torch.stack(losses).mean())
    (gradient,) = torch.autograd.grad(made.commitment_loss, z)
    per_level = [2 * (g - f) / z.numel() for g, f in zip(given, found, strict=True)]
    assert all(level.abs().max() > 0 for level in per_level)
    torch.testing.assert_close(gradient, torch.stack(per_level).mean(dim=0))
    for count in range(1, LEVELS + 1):
        (gradient,) = torch.autograd.grad(quantizer(z, count).commitment_loss, z)
        torch.testing.assert_close(gradient, torch.stack(per_level[:count]).mean(dim=0))


@each_kind
def test_the_commitment_has_the_gradient_of_finite_differences(kind: str) -> None:
    quantizer = make(kind)
    for projections in quantizer.modules():
        if isinstance(projections, torch.nn.Conv1d):
            projections.double()  # codebooks are float32
    z = latents(items=1, dtype=torch.float64)[..., :4].clone().requires_grad_()
    if kind == "factorized":
        # A level there holds its own code, and passes on its projection: one level is smooth.
        assert torch.autograd.gradcheck(lambda z: quantizer(z, 1).commitment_loss, (z,))
        return
    assert torch.autograd.gradcheck(lambda z: quantizer(z).commitment_loss, (z,))


def test_the_sum_passes_the_gradient_through_once() -> None:
    quantizer = make("residual")
    z = latents().requires_grad_()
    for n_q in (None, 1, 3, torch.tensor([1, 4, 2])):
        weight = torch.randn(z.shape)
        (gradient,) = torch.autograd.grad((quantizer(z, n_q).latents * weight).sum(), z)
        assert torch.equal(gradient, weight)


def test_every_level_passes_a_gradient_of_its_own() -> None:
    quantizer = make("residual")
    z = latents().requires_grad_()
    made = quantizer(z)
    for level, found in zip(made.levels, parts(quantizer, z, made.codes)[1], strict=True):
        torch.testing.assert_close(level, found)
        weight = torch.randn(z.shape)
        (gradient,) = torch.autograd.grad((level * weight).sum(), z, retain_graph=True)
        assert torch.equal(gradient, weight)


@each_kind
def test_every_level_of_every_quantiser_reaches_the_encoder(kind: str) -> None:
    z = latents().requires_grad_()
    for level in make(kind)(z).levels:
        (gradient,) = torch.autograd.grad(level.square().sum(), z, retain_graph=True)
        assert gradient.abs().max() > 1e-4


@each_kind
def test_levels_an_item_leaves_out_add_nothing_to_it(kind: str) -> None:
    quantizer = make(kind)
    z, n_q = latents(), torch.tensor([3, 1, LEVELS])
    made = quantizer(z, n_q)
    assert torch.equal(made.codes, quantizer.encode(z)), "codes of all levels"
    for item, count in enumerate(n_q.tolist()):
        alone = quantizer(z[item : item + 1], count)
        torch.testing.assert_close(made.latents[item : item + 1], alone.latents)


@each_kind
def test_losses_are_means_over_the_items_that_use_a_level(kind: str) -> None:
    quantizer = make(kind)
    z, n_q = latents(), torch.tensor([3, 1, LEVELS])
    made = quantizer(z, n_q)

    def of_level(item: int, level: int, name: str) -> Tensor:
        """An item's loss at one level, from the means over levels of one and two prefixes."""
        upto = [
            (level + lower) * getattr(quantizer(z[item : item + 1], level + lower), name)
            for lower in (0, 1)
            if level + lower
        ]
        return upto[-1] - upto[0] if level else upto[0]

    for name in ("commitment_loss", "codebook_loss"):
        expected = [
            torch.stack([of_level(i, level, name) for i in range(3) if n_q[i] > level]).mean()
            for level in range(LEVELS)
        ]
        torch.testing.assert_close(getattr(made, name), torch.stack(expected).mean())


@each_kind
def test_the_losses_of_a_level_do_not_pull_an_item_that_left_it_out(kind: str) -> None:
    quantizer = make(kind)
    z = latents().requires_grad_()
    losses = quantizer(z, torch.tensor([1, 2, 2])), quantizer(z, 1)
    found, first = (torch.autograd.grad(made.commitment_loss, z)[0] for made in losses)
    torch.testing.assert_close(found[0], first[0] / LEVELS)
    assert not torch.allclose(found[1], first[1] / LEVELS)


@each_kind
def test_a_level_that_no_item_uses_costs_nothing(kind: str) -> None:
    quantizer = make(kind)
    everyone = torch.full((3,), 2)
    made, two = quantizer(latents(), everyone), quantizer(latents(), 2)
    torch.testing.assert_close(made.commitment_loss * LEVELS, two.commitment_loss * 2)
    torch.testing.assert_close(made.latents, two.latents)
    assert made.commitment_loss.isfinite()


def test_a_batch_on_few_levels_moves_those_alone() -> None:
    quantizer = make("residual").train()
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(latents(), 2)
    moved = {
        name.split(".")[1]
        for name, value in quantizer.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"0", "1"}


@pytest.mark.parametrize("n_q", [0, LEVELS + 1, torch.tensor([1, 2]), torch.tensor([0, 1, 2])])
@each_kind
def test_levels_that_do_not_exist_are_refused_in_one_sentence(kind: str, n_q: int | Tensor) -> None:
    with pytest.raises(InputError, match=rf"^n_q: expected .*{LEVELS}.* found [^\n]*\.$"):
        make(kind)(latents(), n_q)


@each_kind
def test_codes_of_too_many_levels_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match="n_q: expected 1 to 4 levels, found 5"):
        make(kind).decode(torch.zeros(1, 5, 3, dtype=torch.int64))


@each_kind
def test_evaluation_moves_nothing(kind: str) -> None:
    quantizer = make(kind)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(latents())
    quantizer.train().encode(latents())
    after = quantizer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_state_goes_on_bit_equal_elsewhere() -> None:
    whole, other = make("residual").train(), ResidualVQ(DIM, LEVELS, SIZE)
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    for seed in range(5):
        a, b = whole(latents(seed) * 2 + seed), other(latents(seed) * 2 + seed)
        assert torch.equal(a.latents, b.latents)
    after = other.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in whole.state_dict().items())


def test_residuals_of_half_precision_latents_are_not_rounded() -> None:
    quantizer = make("residual")
    half = latents().bfloat16()
    made = quantizer(half)
    assert torch.equal(made.codes, quantizer.encode(half))
    assert torch.equal(made.codes, quantizer.encode(half.float()))
    assert made.latents.dtype == made.levels[0].dtype == torch.bfloat16
    assert made.commitment_loss.dtype == torch.float32


def test_both_branches_of_a_split_quantiser_see_the_same_latents() -> None:
    quantizer = make("split")
    z = latents()
    codes = quantizer.encode(z)
    semantic = quantizer.semantic.encode(quantizer.project_in[0](z))
    acoustic = quantizer.acoustic.encode(quantizer.project_in[1](z))
    assert torch.equal(codes, torch.cat([semantic, acoustic], dim=1)), "the semantic level first"
    # The acoustic levels repair nothing: they do not see what the semantic one made.
    quantizer.semantic.layers[0].codebook.add_(3)
    with torch.no_grad():
        quantizer.project_out[0].weight.zero_()
    assert torch.equal(quantizer.encode(z)[:, 1:], acoustic)
    assert not torch.equal(quantizer.encode(z)[:, :1], semantic)
    rest = quantizer.project_out[1](quantizer.acoustic.decode(acoustic))
    torch.testing.assert_close(quantizer.decode(codes), rest)


def test_a_split_quantiser_needs_two_levels() -> None:
    with pytest.raises(InputError, match="n_q: expected at least 2 levels to split, found 1"):
        SplitResidualVQ(4, 1, 8)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("dim", "above 0"), ("n_q", "from 1 to 1000"), ("codebook_size", "above 0")],
)
def test_a_size_of_nothing_is_refused_in_one_sentence(key: str, expected: str) -> None:
    sentence = rf"^{key}: expected a whole number {expected}, found 0\.$"
    with pytest.raises(InputError, match=sentence):
        ResidualVQ(**{"dim": 4, "n_q": 2, "codebook_size": 8, key: 0})
