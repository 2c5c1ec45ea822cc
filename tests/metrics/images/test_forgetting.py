import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.images.extractors import PixelFeatures
from kdlight.metrics.images.forgetting import ForgettingMetrics, check_forgotten
from kdlight.metrics.images.frechet import FrechetDistance
from kdlight.metrics.images.generation import GenerationMetrics
from kdlight.networks.images.classifier import SmallClassifier


class Brightness(SmallClassifier):
    """Judges class k where the first pixel is k."""

    def forward(self, images, **settings):
        return -(images[:, 0, 0, :1] - torch.arange(self.num_classes)).square()


def classifier(num_classes=4):
    torch.manual_seed(0)
    return Brightness(num_classes=num_classes)


def images_of(shown, seed=0):
    """Noise whose first pixel is the class that is shown."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(len(shown), 1, 8, 8, generator=generator)
    images[:, 0, 0, 0] = torch.tensor(shown).float()
    return images


REAL = torch.arange(200) % 4
REFERENCE = images_of(REAL.tolist(), seed=1)


SHAPE = (1, 8, 8)


def batches(chosen=slice(None)):
    parts = zip(REFERENCE[chosen].split(20), REAL[chosen].split(20), strict=True)
    return [{"image": image, "label": label} for image, label in parts]


def metrics(**settings):
    return ForgettingMetrics(batches(), SHAPE, [3, 1], classifier(), **settings)


def test_accuracies_of_both_sides_by_hand():
    asked = torch.tensor([1, 1, 1, 1, 3, 0, 0, 2, 2, 2])
    shown = [1, 1, 0, 2, 0, 0, 0, 2, 2, 3]
    measured = metrics()
    for part in (slice(0, 5), slice(5, 10)):  # a batch of either side alone
        measured.update(images_of(shown)[part], asked[part])
    row = measured.row()
    assert row["accuracy_forgotten"] == pytest.approx(2 / 5)
    assert row["accuracy_retained"] == pytest.approx(4 / 5)


def test_frechet_is_that_of_the_retained_classes_alone():
    asked = torch.arange(80) % 4
    images = images_of(asked.tolist(), seed=2)
    images[torch.isin(asked, torch.tensor([1, 3]))] += 50  # must not be seen
    measured = metrics()
    expected = FrechetDistance(PixelFeatures((1, 8, 8)))
    expected.update(REFERENCE[REAL % 2 == 0], real=True)
    expected.update(images[asked % 2 == 0], real=False)
    figures = expected.compute()
    for _ in range(2):  # a row forgets its samples and keeps the reference
        measured.update(images, asked)
        row = measured.row()
        assert row["frechet_pixels_retained"] == pytest.approx(figures["percent"].item())
        assert row["frechet_pixels_retained_floor"] == pytest.approx(figures["floor"].item())


def test_shares_of_two_ranks_are_all_of_the_reference():
    halves = [metrics(rank=rank, world_size=2) for rank in range(2)]
    counts = [int(half._distances[0].real_count) for half in halves]
    assert counts == [50, 50]


def test_one_bad_sample_is_nan_on_its_side():
    asked = torch.tensor([1, 1, 0, 0, 0])
    images = images_of(asked.tolist())
    images[2, 0, 3, 3] = torch.nan
    measured = metrics()
    measured.update(images, asked)
    row = measured.row()
    assert row["accuracy_forgotten"] == 1.0
    assert row["accuracy_retained"] != row["accuracy_retained"]
    assert row["frechet_pixels_retained"] != row["frechet_pixels_retained"]


def test_its_figures_join_the_row_of_the_table():
    judge = classifier()
    table = GenerationMetrics(
        batches(), batches(slice(40)), classifier=judge, forgetting=metrics(features=None)
    )
    asked = torch.arange(40) % 4
    table.update(images_of([0] * 40), asked)
    row = table.row()
    assert (row["accuracy"], row["accuracy_forgotten"]) == (0.25, 0.0)
    assert row["accuracy_retained"] == 0.5


@pytest.mark.parametrize(
    ("forgotten", "count", "message"),
    [
        ([4], 4, "forgotten: expected classes from 0 to 3 as the data has, found 4"),
        ([0, -1], 4, "from 0 to 3 as the data has, found -1"),
        ([], 4, "expected at least one of the 4 classes of the data and not all, found \\[\\]"),
        ([0, 1, 1], 2, "and not all, found \\[0, 1, 1\\]"),
        ([0], 0, "expected classes to ask for, but the data has no labels"),
    ],
)
def test_classes_that_nobody_can_forget(forgotten, count, message):
    with pytest.raises(InputError, match=message):
        check_forgotten(forgotten, count, "the data")


def test_data_and_samples_need_labels():
    with pytest.raises(InputError, match="forgotten: expected data with labels, found none"):
        ForgettingMetrics([{"image": REFERENCE}], SHAPE, [1], classifier())
    with pytest.raises(InputError, match="from 0 to 3 as the classifier has, found 7"):
        ForgettingMetrics(batches(), SHAPE, [7], classifier())
    with pytest.raises(InputError, match="at least 2 real images of other classes, found 0"):
        ForgettingMetrics(batches(REAL == 1), SHAPE, [1], classifier())
    with pytest.raises(InputError, match="forgotten: expected samples with labels, found none"):
        metrics().update(REFERENCE[:4], None)
