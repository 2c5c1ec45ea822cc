"""Logit distillation on images: SSLD's loss, and that it sees no label."""

import math

import lightning as L
import pytest
import torch

from datamodules.images.digits import DigitsDataModule
from datamodules.images.selected import SelectedDataModule
from datamodules.images.unlabelled import UnlabelledDataModule
from kdlight.commands.shared.fitting import check_parts
from kdlight.errors import InputError
from kdlight.losses.language.divergences import forward_kl, jensen_shannon
from kdlight.losses.language.pointwise import JensenShannon
from kdlight.networks.images.classifier import EnsembleClassifier, SmallClassifier
from kdlight.selection.per_class import surest_per_class
from kdlight.training.optim import Optimization
from modules.vision.base import labelled_cross_entropy
from modules.vision.classifier_training import ClassifierTraining
from modules.vision.logit_distillation import LogitDistillation
from tests.exactness.harness import TinyImages, differing, fit, state
from tests.exactness.vision_cases import network


def laws(scale: float = 3.0, rows: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, rows, 7, generator=source, dtype=torch.float64) * scale
    log_p, log_q = drawn.log_softmax(dim=2)
    return log_p, log_q


def test_the_divergence_is_symmetric_bounded_and_zero_at_equality() -> None:
    log_p, log_q = laws(30.0)
    found = jensen_shannon(log_p, log_q)
    torch.testing.assert_close(found, jensen_shannon(log_q, log_p), rtol=1e-12, atol=1e-14)
    assert 0 < found.min() <= found.max() <= math.log(2) + 1e-12
    assert jensen_shannon(log_p, log_p).abs().max() < 1e-15


def test_its_gradient_is_that_of_the_closed_form() -> None:
    log_p, scores = laws()
    scores = scores.clone().requires_grad_(True)
    log_q = scores.log_softmax(dim=1)
    (found,) = torch.autograd.grad(jensen_shannon(log_p, log_q).sum(), scores)
    q = log_q.detach().exp()
    ratio = (log_q.detach() - torch.logaddexp(log_p, log_q.detach()) + math.log(2)) / 2
    expected = q * (ratio - (q * ratio).sum(dim=1, keepdim=True))
    assert (found - expected).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("gap", "kept", "kl"), [(2, 0.117, 0.87), (6, 7.4e-3, 0.99), (12, 3.7e-5, 0.99)]
)
def test_its_gradient_vanishes_where_the_student_is_surely_wrong(
    gap: float, kept: float, kl: float
) -> None:
    """Two classes, of which the teacher is sure of the first and the student of the second."""
    log_p = torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
    for loss, size in ((jensen_shannon, kept), (forward_kl, kl)):
        scores = torch.tensor([[0.0, gap]], dtype=torch.float64, requires_grad=True)
        loss(log_p, scores.log_softmax(dim=1)).backward()
        assert scores.grad is not None
        assert float(scores.grad[0, 0].abs()) == pytest.approx(size, rel=0.03)


def distil(**kwargs: float) -> LogitDistillation:
    optimizer = Optimization(lr=3e-3)
    return LogitDistillation(network(2), network(1), JensenShannon(), optimizer, 12, **kwargs)


class Permuted(TinyImages):
    def train_dataloader(self):
        loader = super().train_dataloader()
        loader.data["label"] = loader.data["label"].roll(1)
        return loader


def test_labels_change_nothing_to_the_bit() -> None:
    assert not list(differing(state(fit(distil())), state(fit(distil(), Permuted()))))
    with_labels = {"cross_entropy": 1.0}
    first, second = (fit(distil(**with_labels), data) for data in (TinyImages(), Permuted()))
    assert list(differing(state(first), state(second)))


def test_cross_entropy_is_over_the_labelled_alone() -> None:
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    label = torch.tensor([0, -1, 2, -1, 1, -1])
    expected = torch.nn.functional.cross_entropy(scores[::2], label[::2])
    torch.testing.assert_close(labelled_cross_entropy(scores, label), expected)
    nothing = labelled_cross_entropy(scores, torch.full((6,), -1))
    assert float(nothing) == 0.0


def test_unlike_classes_and_weights_are_refused() -> None:
    optimizer = Optimization()
    other = SmallClassifier(size=4, num_classes=3, width=4, features=4)
    with pytest.raises(InputError, match="expected the teacher's 2 classes, found 3"):
        LogitDistillation(network(1), other, JensenShannon(), optimizer)
    with pytest.raises(InputError, match="not both 0"):
        distil(distillation=0.0)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    members = [network(seed).eval() for seed in (1, 2, 3)]
    image = torch.randn(5, 1, 4, 4)
    expected = torch.stack([member(image).softmax(dim=1) for member in members]).mean(dim=0)
    torch.testing.assert_close(EnsembleClassifier(members)(image).softmax(dim=1), expected)


class PoisonedBefore(L.Callback):
    """An image of the fourth update is no number; ``accumulate`` batches make one."""

    def __init__(self, accumulate: int) -> None:
        self.first, self.last = 3 * accumulate, 4 * accumulate

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.iteration == self.first:
            self.before = state(pl_module)
            batch["image"][0] = float("nan")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.iteration == self.last:
            self.changed = list(differing(self.before, state(pl_module)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_image_that_is_no_number_leaves_running_statistics_alone(accumulate: int) -> None:
    student = network(1)
    student.trunk.insert(1, torch.nn.BatchNorm2d(4))
    module = LogitDistillation(
        network(2), student, JensenShannon(), Optimization(), 12, accumulate=accumulate
    )
    poisoned = PoisonedBefore(accumulate)
    fit(module, callbacks=[poisoned])
    assert module.non_finite_total == 1
    assert poisoned.changed == []
    assert all(value.isfinite().all() for value in state(module).values())


def test_labels_are_kept_of_few_and_the_same_for_every_seed() -> None:
    parts = [UnlabelledDataModule(DigitsDataModule(), 100, seed=seed) for seed in (0, 1)]
    first, second = (part.splits.training["label"] for part in parts)
    assert torch.equal(first, second)
    kept = first[first >= 0]
    assert len(first) == 1437
    assert len(kept) == 100
    assert torch.bincount(kept, minlength=10).min() >= 9
    few = UnlabelledDataModule(DigitsDataModule(), 100, part="labelled").splits
    assert torch.equal(few.training["label"], kept)
    assert len(few.heldout["label"]) == 360


def test_foreign_images_are_mixed_in_without_labels() -> None:
    both = UnlabelledDataModule(DigitsDataModule(), 100, foreign=DigitsDataModule(leave_out=[3]))
    label = both.splits.training["label"]
    assert len(label) > 1437 + 1200
    assert int((label >= 0).sum()) == 100
    with pytest.raises(InputError, match="labels: expected 0, or from the 10 classes"):
        _ = UnlabelledDataModule(DigitsDataModule(), 5).splits


def test_foreign_images_alone_stand_in_for_data_that_are_gone() -> None:
    other = DigitsDataModule(leave_out=[3])
    gone = UnlabelledDataModule(DigitsDataModule(), 0, part="foreign", foreign=other).splits
    assert torch.equal(gone.training["image"], other.splits.training["image"])
    assert set(gone.training["label"].tolist()) == {-1}
    assert torch.equal(gone.heldout["label"], DigitsDataModule().splits.heldout["label"])
    with pytest.raises(InputError, match="foreign: expected images to train on"):
        UnlabelledDataModule(DigitsDataModule(), 0, part="foreign")


def test_a_method_that_needs_every_label_says_so() -> None:
    few = UnlabelledDataModule(DigitsDataModule(), 100)
    method = ClassifierTraining(SmallClassifier(width=4, features=4), Optimization(0.1), 1)
    with pytest.raises(InputError, match="data: expected a label for every image.*part: labelled"):
        fit(method, few)
    assert UnlabelledDataModule(DigitsDataModule(), 100, part="labelled").all_labelled


def test_exactly_so_many_of_each_class_or_all_are_chosen() -> None:
    source = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 4, generator=source)
    scores[:, 3] -= 100.0  # a class that is nowhere the likeliest
    guess, sure = scores.argmax(dim=1), scores.softmax(dim=1).amax(dim=1)
    for count in (1, 5, 100):
        rows = surest_per_class(scores, count)
        sizes = torch.bincount(guess, minlength=4)
        expected = sizes.clamp(max=count)
        assert torch.equal(torch.bincount(guess[rows], minlength=4), expected)
        left = torch.ones(60, dtype=torch.bool).index_fill(0, rows, False)
        for value in range(3):
            rest = sure[left & (guess == value)]
            assert not len(rest) or rest.max() <= sure[rows][guess[rows] == value].min()
    assert torch.equal(surest_per_class(scores, 100, least=0.0), torch.arange(60))
    assert sure[surest_per_class(scores, 100, least=0.7)].min() >= 0.7
    assert not len(surest_per_class(scores, 100, least=1.0))


def test_selected_images_are_those_of_the_teacher_and_have_no_label() -> None:
    torch.manual_seed(0)
    teacher = SmallClassifier()
    data = SelectedDataModule(DigitsDataModule(), teacher, per_class=4)
    training = data.splits.training
    assert set(training["label"].tolist()) == {-1}
    assert len(training["label"]) <= 40
    known = DigitsDataModule().splits.training["image"]
    assert torch.equal(training["image"], known[surest_per_class(teacher.eval()(known), 4)])
    both = UnlabelledDataModule(DigitsDataModule(), 100, foreign=data).splits.training
    assert len(both["label"]) == 1437 + len(training["label"])
    with pytest.raises(InputError, match="sure of none"):
        _ = SelectedDataModule(DigitsDataModule(), teacher, 4, least=1.0).splits


class WithoutClasses(TinyImages):
    num_classes = 0


def test_images_without_classes_teach_what_the_teacher_says_and_nothing_else() -> None:
    check_parts(distil(), WithoutClasses(), [])
    fit(distil(), WithoutClasses())
    with pytest.raises(InputError, match="expected images with classes, which LogitDistil"):
        fit(distil(cross_entropy=1.0), WithoutClasses())
