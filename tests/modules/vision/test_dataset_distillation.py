"""Distilled sets: the ridge head in both forms, its gradient, the bias of sampling, the pool."""

import pytest
import torch

from kdlight.errors import InputError
from kdlight.losses.ridge import ridge_predictions, with_one
from kdlight.networks.images.feature_pool import ConvEncoder, FeaturePool
from kdlight.training.optim import Optimization
from modules.vision.dataset_distillation import DatasetDistillation
from tests.exactness.vision_cases import encoder


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("count", [4, 9, 30])
def test_primal_and_dual_head_are_one(count: int) -> None:
    asked, known, targets = drawn(20, 8), drawn(count, 8, seed=1), drawn(count, 3, seed=2)
    found = [ridge_predictions(asked, known, targets, 1e-3, form) for form in ("primal", "dual")]
    assert (found[0] - found[1]).abs().max() < 1e-11
    shorter = ridge_predictions(asked, known, targets, 1e-3)
    assert torch.equal(shorter, found[count <= 9])


def test_what_is_linear_in_the_features_is_predicted_exactly() -> None:
    asked, known, matrix = drawn(20, 8), drawn(12, 8, seed=1), drawn(9, 3, seed=2)
    found = ridge_predictions(asked, known, with_one(known) @ matrix, 1e-14)
    assert (found - with_one(asked) @ matrix).abs().max() < 1e-9


def test_the_gradient_to_features_and_targets_is_that_of_finite_differences() -> None:
    asked = drawn(6, 3)
    known, targets = drawn(4, 3, seed=1).requires_grad_(True), drawn(4, 2, seed=2)
    strength = 1e-2 / float(with_one(known.detach()).square().sum())

    def loss(known: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # The amount is a constant: it carries no gradient.
        scale = float(with_one(drawn(4, 3, seed=1)).square().sum())
        amount = strength * scale / with_one(known.detach()).square().sum()
        return ridge_predictions(asked, known, targets, float(amount)).square().sum()

    assert torch.autograd.gradcheck(loss, (known, targets.requires_grad_(True)), atol=1e-6)


def test_a_dead_network_gives_the_mean_and_no_singular_system() -> None:
    targets = drawn(4, 2)
    for form in ("primal", "dual"):
        found = ridge_predictions(torch.zeros(3, 5), torch.zeros(4, 5), targets, 1e-6, form)
        torch.testing.assert_close(found, targets.mean(dim=0).expand(3, -1), rtol=1e-5, atol=1e-5)


def test_the_gradient_through_a_sampled_head_is_biased() -> None:
    """Features kept by a coin: the gradient at the head of the mean is not the mean gradient."""
    asked, wanted, targets = drawn(8, 4), drawn(8, 1, seed=3), drawn(5, 1, seed=2)
    known = drawn(5, 4, seed=1)
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)

    def gradient(predict: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((predict - wanted).square().mean(), at)[0]

    at = targets.clone().requires_grad_(True)
    answers = torch.stack([ridge_predictions(asked * m, known * m, at, 1e-2) for m in masks])
    true = gradient(answers.mean(dim=0), at)
    each = torch.stack(
        [gradient(ridge_predictions(asked * m, known * m, at, 1e-2), at) for m in masks]
    )
    assert float((each.mean(dim=0) - true).norm() / true.norm()) > 0.2


def pool(life: int = 3, restart_age: bool = True) -> FeaturePool:
    return FeaturePool(network(0), 2, lr=0.1, life=life, restart_age=restart_age)


def test_the_pool_descends_as_the_optimizer_of_torch() -> None:
    made, image, target = pool(life=100), drawn(5, 1, 4, 4).float(), drawn(5, 2, seed=1).float()
    other = network(5)
    other.load_state_dict(made.member(0).state_dict())
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    before = {key: value.clone() for key, value in made.member(1).state_dict().items()}
    for _ in range(4):
        made.advance(0, image, target, seed=0)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(other(image), target).backward()
        optimizer.step()
    for key, value in other.state_dict().items():
        torch.testing.assert_close(made.member(0).state_dict()[key], value)
        assert torch.equal(made.member(1).state_dict()[key], before[key])
    assert made.ages.tolist() == [4, 0]
    assert not any(each.requires_grad for each in made.parameters())


@pytest.mark.parametrize("restart", [True, False])
def test_an_old_network_is_replaced_and_its_age_begins_anew(restart: bool) -> None:
    made, image, target = pool(3, restart), drawn(5, 1, 4, 4).float(), drawn(5, 2, seed=1).float()
    for seed in range(3):
        made.advance(0, image, target, seed)
    fresh = list(network(2).parameters())
    assert alike(made.member(0), fresh)
    assert not any(float(each.abs().sum()) for each in made.momenta[0].parameters())
    made.advance(0, image, target, 7)
    # As the released program counts, a slot holds an untrained network from here on.
    assert not alike(made.member(0), fresh)
    assert alike(made.member(0), list(network(7).parameters())) is not restart


def network(seed: int) -> ConvEncoder:
    torch.manual_seed(seed)
    return ConvEncoder(size=4, outputs=2, width=2, features=3)


def alike(one: ConvEncoder, weights: list[torch.nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), weights, strict=True))


def test_outputs_and_counts_that_do_not_fit_are_refused() -> None:
    wrong = ConvEncoder(size=4, outputs=3, width=2, features=3)
    with pytest.raises(InputError, match="expected outputs 4 as the teacher's features, found 3"):
        DatasetDistillation(encoder(2, 4, 1), wrong, Optimization())
    right = ConvEncoder(size=4, outputs=4, width=2, features=3)
    module = DatasetDistillation(encoder(2, 4, 1), right, Optimization(), count=9)
    with pytest.raises(InputError, match="expected at most the 8 images of a batch, found 9"):
        module.start(torch.zeros(8, 1, 4, 4), torch.zeros(8, 4))
