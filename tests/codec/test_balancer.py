"""The balanced gradient against its formula, over batches, states and ranks."""

import io

import pytest
import torch
from torch import Tensor

from kdlight.codec.balancer import GradientBalancer
from kdlight.errors import InputError
from tests.codec.rank_runs import one_rank, two_ranks

WEIGHTS = {"square": 1.0, "linear": 3.0}


def audio(seed: int = 0, items: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(items, 1, 10, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def terms(x: Tensor, unit: float = 1.0) -> dict[str, Tensor]:
    slope = torch.linspace(-1, 2, x.shape[-1], dtype=x.dtype)
    return {"square": x.square().mean(), "linear": unit * (x * slope).mean()}


def item_gradients(x: Tensor) -> dict[str, Tensor]:
    """Gradients of each item's own loss, by hand."""
    slope = torch.linspace(-1, 2, x.shape[-1], dtype=x.dtype).expand_as(x)
    return {"square": 2 * x.detach() / x.shape[-1], "linear": slope / x.shape[-1]}


def norm(gradient: Tensor) -> Tensor:
    return gradient.flatten(1).norm(dim=1).mean()


def balanced(balancer: GradientBalancer, x: Tensor, unit: float = 1.0) -> Tensor:
    (gradient,) = torch.autograd.grad(balancer(x, terms(x, unit), WEIGHTS), x)
    return gradient


def test_the_first_gradient_is_the_formula_without_bias() -> None:
    x = audio()
    gradients = item_gradients(x)
    expected = sum(WEIGHTS[name] / 4 * g / norm(g) for name, g in gradients.items()) / len(x)
    found = balanced(GradientBalancer(decay=0.999), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_later_gradients_divide_by_the_corrected_average_of_norms() -> None:
    balancer, decay = GradientBalancer(decay=0.9), 0.9
    seen: dict[str, list[Tensor]] = {name: [] for name in WEIGHTS}
    for step in range(1, 5):
        x = audio(step) if step != 3 else (audio(step).detach() * 5).requires_grad_()
        expected = torch.zeros_like(x)
        for name, gradient in item_gradients(x).items():
            seen[name].append(norm(gradient))
            shares = [(1 - decay) * decay ** (step - 1 - i) for i in range(step)]
            assert sum(shares) == pytest.approx(1 - decay**step)
            average = sum(s * n for s, n in zip(shares, seen[name], strict=True)) / sum(shares)
            expected += WEIGHTS[name] / 4 * gradient / average / len(x)
        torch.testing.assert_close(balanced(balancer, x), expected.detach(), rtol=1e-5, atol=1e-8)


def test_the_share_of_a_term_is_its_weight_whatever_its_unit() -> None:
    one, thousand = GradientBalancer(), GradientBalancer()
    for seed in range(3):
        a, b = balanced(one, audio(seed)), balanced(thousand, audio(seed), unit=1000.0)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_weights_count_by_their_ratio() -> None:
    x = audio()
    a, b = (
        torch.autograd.grad(
            GradientBalancer()(x, terms(x), {name: scale * w for name, w in WEIGHTS.items()}), x
        )[0]
        for scale in (1, 7)
    )
    torch.testing.assert_close(a, b)


def test_terms_of_the_balancer_and_others_keep_their_balance_at_any_batch_size() -> None:
    x = audio(items=1)
    repeated = x.detach().repeat(4, 1, 1).requires_grad_()
    alone, many = balanced(GradientBalancer(), x), balanced(GradientBalancer(), repeated)
    # As for a mean over items: an item has a quarter of the gradient it has alone.
    torch.testing.assert_close(many, alone.expand(4, 1, 10) / 4)


def test_a_norm_that_is_not_finite_is_left_out_of_the_average() -> None:
    balancer, clean = GradientBalancer(0.9), GradientBalancer(0.9)
    balanced(balancer, audio(0))
    balanced(clean, audio(0))
    poisoned = audio(1).detach().clone()
    poisoned[0, 0, 0] = float("nan")
    gradient = balanced(balancer, poisoned.requires_grad_())
    assert not gradient.isfinite().all(), "for the guard to see"
    # The second, too: its slope is finite where it is no number itself.
    assert balancer.counts == {"square": 1, "linear": 1}
    assert balancer.norms == clean.norms
    after = balanced(balancer, audio(2))
    assert after.isfinite().all()


def test_the_first_norm_may_not_be_finite() -> None:
    balancer = GradientBalancer()
    x = audio().detach()
    x[0, 0, 0] = float("inf")
    balanced(balancer, x.requires_grad_())
    assert "square" not in balancer.norms
    torch.testing.assert_close(balanced(balancer, audio(1)), balanced(GradientBalancer(), audio(1)))


def test_a_term_without_gradient_adds_nothing() -> None:
    x = audio()
    flat = {**terms(x), "flat": (x * 0).mean()}
    found = torch.autograd.grad(GradientBalancer()(x, flat, {**WEIGHTS, "flat": 4.0}), x)[0]
    torch.testing.assert_close(found, balanced(GradientBalancer(), x) / 2)


def test_its_state_goes_through_a_file_bit_equal() -> None:
    whole = GradientBalancer(0.9)
    for seed in range(3):
        balanced(whole, audio(seed))
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = GradientBalancer(0.9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        assert torch.equal(balanced(whole, audio(seed)), balanced(resumed, audio(seed)))
    assert resumed.counts == {"square": 6, "linear": 6}


def test_two_ranks_average_to_the_gradient_of_the_joint_batch() -> None:
    for step, whole in enumerate(one_rank()["balanced"]):
        for rank, found in enumerate(run["balanced"][step] for run in two_ranks()):
            torch.testing.assert_close(found / 2, whole[rank::2])


@pytest.mark.parametrize("decay", [1.0, -0.5])
def test_a_decay_out_of_range_is_refused_in_one_sentence(decay: float) -> None:
    with pytest.raises(InputError, match=rf"^decay: expected .* found {decay}\.$"):
        GradientBalancer(decay)
