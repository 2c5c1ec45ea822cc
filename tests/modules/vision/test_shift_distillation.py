"""KD3: what is kept, features as the class layer uses them, statistics that are mixed."""

import pytest
import torch

from datamodules.images.digits import DigitsDataModule
from datamodules.images.shifted import ShiftedDataModule, ShiftedImages
from kdlight.errors import InputError
from kdlight.losses.shift import mixed_statistics, surest, used_feature_error
from kdlight.networks.images.classifier import SmallClassifier, class_layer, with_features
from kdlight.networks.images.foreign_classifiers import TorchvisionClassifier
from kdlight.teachers.classifiers import bundled_classifier
from kdlight.training.optim import Optimization
from modules.vision.shift_distillation import ShiftDistillation
from tests.exactness.harness import fit, state
from tests.exactness.vision_cases import network


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def content(maps: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.instance_norm(maps, eps=0)


def test_statistics_are_mixed_and_nothing_else() -> None:
    maps, order = drawn(5, 3, 4, 4) * 3 + 1, drawn(5, seed=1)
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(mixed_statistics(maps, order, ones), maps)
    mixed = mixed_statistics(maps, order, 0.3 * ones)
    torch.testing.assert_close(content(mixed), content(maps))
    mean = maps.mean(dim=(2, 3))
    ranked = order.argsort()
    other = torch.empty_like(mean).index_copy(0, ranked, mean[ranked.roll(-1)])
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), 0.3 * mean + 0.7 * other)
    assert not (other == mean).any(), "none is its own other"


def test_a_students_vote_rejects_what_it_sees_otherwise() -> None:
    teacher = torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    student = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 2.0, 0.0]])
    assert surest(teacher, student, 0.0, 1.0).tolist() == [True, True, True]
    # Of the first class .999 and .5, whose mean is .75; alone in a class one is the mean.
    assert surest(teacher, student, 0.5, 1.0).tolist() == [True, False, True]
    assert surest(teacher, student, 0.5, 0.6).tolist() == [True, True, True]
    assert surest(teacher, student, 0.5, 0.0).all()
    assert not surest(teacher, student, 0.5, 100.0).any()


def test_features_count_as_the_class_layer_uses_them() -> None:
    layer = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.0, 2.0]])
    taught = drawn(2, 3).float()
    off = torch.tensor([[0.0, 7.0, 0.0], [1.0, 0.0, 1.0]])
    found = used_feature_error(taught + off, taught, layer)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0]))  # weights 1, 0 and 2


@pytest.mark.parametrize(
    "classifier",
    [
        SmallClassifier(channels=3, num_classes=4, features=16),
        TorchvisionClassifier("mobilenet_v3_small", 4, size=32),
    ],
)
def test_features_of_any_classifier_are_what_its_class_layer_reads(classifier) -> None:
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    features, scores = with_features(classifier.eval(), image)
    torch.testing.assert_close(class_layer(classifier)(features), scores)
    torch.testing.assert_close(classifier(image), scores)


def shift(**kwargs) -> ShiftDistillation:
    return ShiftDistillation(network(2), network(1), Optimization(lr=3e-3), iterations=3, **kwargs)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_nothing_kept_is_nothing_learnt(weight: float) -> None:
    module = shift(threshold=100.0, features=weight, contrast=weight)
    before = state(module)
    after = state(fit(module))
    assert module.non_finite_total == 0
    assert all(torch.equal(before[name], after[name]) for name in before if "student" in name)


def test_the_class_layer_is_the_teachers() -> None:
    module = fit(shift(threshold=0.0))
    own, given = class_layer(module.student), class_layer(module.teacher_classifier())
    assert torch.equal(own.weight, given.weight)
    assert torch.equal(class_layer(module.ema.module).weight, given.weight)
    free = fit(shift(threshold=0.0, shared_head=False))
    assert not torch.equal(class_layer(free.student).weight, given.weight)


def test_unlike_features_and_modules_that_are_not_there_are_refused() -> None:
    other = SmallClassifier(size=4, num_classes=2, width=4, features=5)
    with pytest.raises(InputError, match="class layer of the teacher's 4 features, found 5"):
        ShiftDistillation(network(2), other, Optimization())
    ShiftDistillation(network(2), other, Optimization(), shared_head=False, features=0.0)
    with pytest.raises(InputError, match="mixed_at: expected a module of the student, found 'x'"):
        shift(mixed_at="x")
    with pytest.raises(InputError, match=r"bundled classifier \(digits_classifier"):
        bundled_classifier("x")


def test_shifted_data_change_their_look_and_add_what_has_no_class() -> None:
    plain = DigitsDataModule()
    data = ShiftedDataModule(plain, letters=20, textures=30)
    image, label = data.splits.training["image"], data.splits.training["label"]
    known = plain.splits.training
    assert torch.equal(label[:1437], known["label"])
    assert label[1437:].tolist() == [-1] * 50
    assert image.min() >= -1
    assert image.max() <= 1
    assert torch.equal(image[0], -known["image"][0])
    assert (image[:1437] != known["image"]).flatten(1).any(dim=1).all()
    assert (image[1437:1457] > -0.5).flatten(1).any(dim=1).all(), "letters have ink"
    assert data.splits.heldout is plain.splits.heldout
    # Read one by one they are the same.
    one = ShiftedImages(known, data.shape, 20, 30)
    for index in (0, 3, 4, 1440, 1480):
        assert torch.equal(one[index, 0]["image"], image[index])
