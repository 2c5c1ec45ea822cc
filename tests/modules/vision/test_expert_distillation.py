"""Long tails: the optimum of adjusted heads, and that their mean is the classifier of balance."""

import pytest
import torch

from datamodules.images.digits import DigitsDataModule
from datamodules.images.long_tail import LongTailDataModule
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.losses.long_tail import adjusted, confident_consistency
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.networks.images.expert_heads import ExpertClassifier
from kdlight.networks.images.foreign_classifiers import TorchvisionClassifier
from kdlight.training.optim import Optimization
from modules.vision.base import mean_of
from modules.vision.expert_distillation import ExpertDistillation

STRENGTHS = (-0.5, 1.0, 2.5)


def joint() -> torch.Tensor:
    """An exact law of 4 inputs and 3 classes of unlike size."""
    drawn = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weighed = (drawn + 0.1) * torch.tensor([1.0, 0.2, 0.04], dtype=torch.float64)
    return weighed / weighed.sum()


def optimum(strength: float) -> torch.Tensor:
    """Log-law of the free scores that minimise the exact expectation of the loss."""
    law = joint()
    log_counts = (1000 * law.sum(dim=0)).log()
    scores = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([scores], max_iter=500, tolerance_grad=1e-13, tolerance_change=0)

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = -(law * adjusted(scores, log_counts, strength).log_softmax(dim=1)).sum()
        value.backward()
        return value

    solver.step(loss)
    return scores.detach().log_softmax(dim=1)


@pytest.mark.parametrize("strength", [0.0, *STRENGTHS])
def test_a_head_ends_in_the_law_times_a_power_of_the_class_size(strength: float) -> None:
    law = joint()
    expected = law / law.sum(dim=1, keepdim=True) * law.sum(dim=0) ** -strength
    expected = expected / expected.sum(dim=1, keepdim=True)
    assert (optimum(strength).exp() - expected).abs().max() < 3e-7


def test_the_mean_of_the_heads_is_the_classifier_of_balanced_classes() -> None:
    law = joint()
    balanced = law / law.sum(dim=0)
    balanced = balanced / balanced.sum(dim=1, keepdim=True)
    heads = torch.stack([optimum(strength) for strength in STRENGTHS])
    assert (heads.mean(dim=0).softmax(dim=1) - balanced).abs().max() < 3e-7
    of_probabilities = heads.exp().mean(dim=0)
    assert (of_probabilities - balanced).abs().max() > 0.02, "probabilities do not cancel"


def test_consistency_asks_the_right_alone_and_leaves_the_weak_view_alone() -> None:
    weak = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.0, 1.0]]], requires_grad=True)
    strong = torch.zeros(2, 2, 2, requires_grad=True)
    each, right = confident_consistency(weak, strong, torch.tensor([0, 1]))
    assert right.tolist() == [[True, False], [True, True]]
    p = weak.detach()[0, 0].softmax(dim=0)
    assert float(each[0, 0].detach()) == pytest.approx(float((p * (2 * p).log()).sum()))
    mean_of(each[:, 0], right[:, 0]).backward()
    assert weak.grad is None
    assert strong.grad is not None
    nothing = mean_of(each[:, 0], torch.zeros(2, dtype=torch.bool))
    assert float(nothing.detach()) == 0.0


def test_scores_are_the_mean_of_the_heads() -> None:
    trunk = SmallClassifier(size=4, num_classes=3, width=4, features=6)
    image = torch.randn(5, 1, 4, 4)
    for scale in (None, 8.0):
        model = ExpertClassifier(trunk, experts=3, cosine_scale=scale).eval()
        assert model.each(image).shape == (5, 3, 3)
        torch.testing.assert_close(model(image), model.each(image).mean(dim=1))
    assert float(model.each(image).abs().max()) <= 8.0 + 1e-5


def test_any_classifier_with_a_linear_layer_is_a_trunk() -> None:
    library = TorchvisionClassifier(
        "mobilenet_v3_small", num_classes=4, settings={"width_mult": 0.1}
    )
    model = ExpertClassifier(library, experts=2).eval()
    image = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.each(image)[:, 0], library(image))
    assert library.features(image).shape == (2, model.others[0].in_features)


def test_strengths_and_counts_that_do_not_fit_are_refused() -> None:
    model = ExpertClassifier(SmallClassifier(size=4, num_classes=2, width=4, features=4))
    strong = AffineAugmentation()
    with pytest.raises(InputError, match="expected one for each of 3 heads, found 2"):
        ExpertDistillation(model, Optimization(), strong, strengths=[1.0, 1.0])
    with pytest.raises(InputError, match=r"expected 2 numbers above 0, found \[3, 0\]"):
        ExpertDistillation(model, Optimization(), strong, class_counts=[3, 0])


def test_classes_become_rarer_by_the_rule() -> None:
    data = LongTailDataModule(DigitsDataModule(), 50.0, largest=110)
    assert data.class_counts == [110, 71, 46, 30, 19, 13, 8, 5, 3, 2]
    splits = data.splits
    assert torch.bincount(splits.training["label"]).tolist() == data.class_counts
    assert torch.bincount(splits.heldout["label"]).min() >= 34, "balanced"
    assert data.groups == {"many": [0], "medium": [1, 2, 3], "few": [4, 5, 6, 7, 8, 9]}
    other = LongTailDataModule(DigitsDataModule(), 50.0, largest=110, seed=1)
    assert torch.equal(other.splits.training["image"], splits.training["image"])
    natural = LongTailDataModule(other, imbalance=None, many=60, few=10)
    assert natural.class_counts == data.class_counts
    assert natural.groups == {"many": [0, 1], "medium": [2, 3, 4, 5], "few": [6, 7, 8, 9]}
    assert natural.splits is other.splits
    with pytest.raises(InputError, match="largest: class '0' has 142 images, not 5000"):
        _ = LongTailDataModule(DigitsDataModule(), largest=5000).class_counts
