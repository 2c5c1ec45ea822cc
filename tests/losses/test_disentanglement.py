"""Closed forms of what hides a voice, and the sign that a reversal must have."""

import math

import pytest
import torch

from kdlight.losses.disentanglement import (
    confusion_loss,
    corpus_loss,
    exposure_loss,
    guess_loss,
    voice_contrast,
)
from kdlight.networks.gradient_reversal import reversed_gradient

ALL = torch.ones(5, dtype=torch.bool)


def test_reversal_leaves_values_and_turns_gradients():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reversed_gradient(x, 0.3), x)
    for scale in (0.0, 0.3, 2.0):
        (once,) = torch.autograd.grad(reversed_gradient(x, scale).square().sum(), x)
        assert torch.equal(once, -scale * 2 * x)
        twice = reversed_gradient(reversed_gradient(x, scale), scale).square().sum()
        torch.testing.assert_close(torch.autograd.grad(twice, x)[0], scale**2 * 2 * x)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrast_of_orthogonal_and_of_equal_voices(temperature):
    voices = torch.eye(5, dtype=torch.float64)
    expected = math.log(1 + 4 * math.exp(-1 / temperature))
    assert float(voice_contrast(voices, voices, ALL, temperature)) == pytest.approx(expected)
    same = torch.ones(5, 3, dtype=torch.float64)
    assert float(voice_contrast(same, same, ALL, temperature)) == pytest.approx(math.log(5))
    three = torch.tensor([True, True, False, True, False])
    assert float(voice_contrast(same, same, three, temperature)) == pytest.approx(math.log(3))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_against_exposure_lowers_the_cosine_from_both_sides(sign):
    generator = torch.Generator().manual_seed(0)
    voice = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=-1)
    content = (sign * voice + 0.3 * torch.randn(5, 4, generator=generator)).requires_grad_()
    (gradient,) = torch.autograd.grad(exposure_loss(content, voice, ALL), content)
    before, after = (
        torch.cosine_similarity(each, voice).abs() for each in (content, content - 0.1 * gradient)
    )
    assert (after < before).all()


def test_a_minus_sign_and_a_reversal_teach_content_the_voice():
    """ "Maximise the cosine distance through a reversal layer" says one thing twice."""
    voice = torch.tensor([[1.0, 0.0]])
    some = torch.ones(1, dtype=torch.bool)
    content = torch.tensor([[1.0, 1.0]], requires_grad=True)
    moved = {}
    for name, sign in (("reversal", 1.0), ("both", -1.0)):
        loss = sign * guess_loss(reversed_gradient(content), voice, some)
        (gradient,) = torch.autograd.grad(loss, content)
        moved[name] = float(torch.cosine_similarity(content - 0.1 * gradient, voice))
    start = math.sqrt(0.5)
    assert moved["reversal"] < start < moved["both"]


def test_reversal_goes_on_to_a_cosine_of_minus_one_where_exposure_stops_at_zero():
    """A voice turned round is as well known as the voice."""
    voice = torch.tensor([[1.0, 0.0]])
    some = torch.ones(1, dtype=torch.bool)
    found = {}
    for name in ("reversal", "exposure"):
        content = torch.tensor([[1.0, 1.0]])
        for _ in range(400):
            content.requires_grad_()
            loss = (
                guess_loss(reversed_gradient(content), voice, some)
                if name == "reversal"
                else exposure_loss(content, voice, some)
            )
            (gradient,) = torch.autograd.grad(loss, content)
            content = (content - 0.2 * gradient).detach()
        found[name] = float(torch.cosine_similarity(content, voice))
    assert found["reversal"] < -0.95
    assert abs(found["exposure"]) < 0.01


def test_rotation_escapes_a_held_adversary_but_not_one_that_learns():
    generator = torch.Generator().manual_seed(1)
    voice = torch.nn.functional.normalize(
        torch.randn(5, 2, generator=generator, dtype=torch.float64), dim=-1
    )
    content = voice @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    # The held one reads content as it reads the teacher.
    assert float(exposure_loss(content, voice, ALL)) < 1e-12
    learnt = torch.linalg.lstsq(content, voice).solution
    assert float(guess_loss(content @ learnt, voice, ALL)) < 1e-12
    assert float(exposure_loss(content @ learnt, voice, ALL)) == pytest.approx(1.0)


def test_nothing_that_counts_is_no_loss():
    vectors = torch.randn(5, 3, requires_grad=True)
    none = torch.zeros(5, dtype=torch.bool)
    for loss in (
        voice_contrast(vectors, vectors, none, 0.1),
        guess_loss(vectors, vectors, none),
        exposure_loss(vectors, vectors, none),
    ):
        assert float(loss) == 0


def test_the_best_critic_says_how_likely_the_target_is():
    """Symbols of which the target has three quarters A, the others one quarter."""
    target = torch.tensor([True, False])
    mask = torch.ones(2, 4, dtype=torch.bool)
    is_a = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.bool)
    says = torch.tensor([0.75, 0.25], dtype=torch.float64, requires_grad=True)
    loss = corpus_loss(torch.where(is_a, says[0], says[1]), target, mask)
    (gradient,) = torch.autograd.grad(loss, says)
    assert gradient.abs().max() < 1e-12
    # Where both are alike the best says a half, and the loss is a quarter; so with more of one.
    half = torch.full((2, 4), 0.5, dtype=torch.float64)
    assert float(corpus_loss(half, target, mask)) == pytest.approx(0.25)
    mask[0, 1:] = False
    assert float(corpus_loss(half, target, mask)) == pytest.approx(0.25)
    assert float(confusion_loss(half, target, mask)) == pytest.approx(0.25)


def test_a_batch_of_one_corpus_is_no_nan():
    logits = torch.randn(2, 4, requires_grad=True)
    mask = torch.ones(2, 4, dtype=torch.bool)
    for target in (torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)):
        (corpus_loss(logits, target, mask) + confusion_loss(logits, target, mask)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
