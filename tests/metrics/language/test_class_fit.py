import math

import pytest
import torch

from kdlight.metrics.language.calibration import GRID, binned, binned_error, smooth_error
from kdlight.metrics.language.classification import TextClassificationFit, probability_loyalty

TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], dtype=torch.float64)
STUDENT = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]], dtype=torch.float64)


def test_loyalties_by_hand():
    metric = TextClassificationFit(3, golden=True, teacher=True)
    truth = TEACHER.log()
    metric.update(STUDENT.log(), torch.tensor([0, 1]), truth, TEACHER.log())
    found = metric.compute()
    assert found["label_loyalty"] == 0.5
    assert found["class_accuracy"] == 0.5
    assert float(found["probability_loyalty"]) == pytest.approx(0.753677111709, abs=1e-12)
    assert found["golden_kl"] == found["proxy_kl"]
    # Sure by 0.6 and 0.5, right with 0.7 and 0.1 in truth: two bins.
    assert float(found["ece"]) == pytest.approx((0.1 + 0.4) / 2, abs=1e-12)
    nats = 1 - (1 - probability_loyalty(TEACHER.log(), STUDENT.log())) * math.sqrt(math.log(2))
    assert float(nats.mean()) == pytest.approx(0.794922743519, abs=1e-12)


def test_a_model_is_wholly_loyal_to_itself_and_a_bad_one_is_nan():
    metric = TextClassificationFit(3, golden=False, teacher=True)
    assert metric.names == (
        *("class_accuracy", "proxy_kl", "label_loyalty", "probability_loyalty"),
        *("macro_f1", "ece", "smooth_ece"),
    )
    metric.update(STUDENT.log(), torch.tensor([0, 0]), None, STUDENT.log())
    found = metric.compute()
    assert (found["proxy_kl"], found["label_loyalty"], found["class_accuracy"]) == (0, 1, 1)
    # A root has an infinite slope at 0.
    assert float(found["probability_loyalty"]) == pytest.approx(1, abs=1e-7)
    metric.update(STUDENT.log() * torch.nan, torch.tensor([0, 0]), None, STUDENT.log())
    assert metric.compute()["label_loyalty"].isnan()


def test_the_macro_f1_by_hand_in_two_parts():
    metric = TextClassificationFit(4, golden=False, teacher=False)
    said, label = torch.tensor([0, 0, 1, 3, 1, 0]), torch.tensor([0, 1, 1, 1, 1, 0])
    logits = torch.nn.functional.one_hot(said, 4).double()
    for part in (slice(0, 4), slice(4, 6)):
        metric.update(logits[part], label[part])
    # Of class 0 two hits of 3 and 2, of 1 two of 2 and 4, of 3 none of 1 and 0; 2 does not occur.
    expected = (4 / 5 + 4 / 6 + 0) / 3
    assert float(metric.compute()["macro_f1"]) == pytest.approx(expected, abs=1e-12)


def test_the_binned_error_of_the_sheet():
    confidence = torch.tensor([0.95, 0.85, 0.75, 0.65, 0.55], dtype=torch.float64)
    right = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    error = binned_error(binned(confidence, right, 10), torch.tensor(5))
    assert float(error) == pytest.approx(0.37, abs=1e-12)


def smooth(confidence: list[float], right: list[float]) -> float:
    sums = binned(torch.tensor(confidence).double(), torch.tensor(right).double(), GRID)
    return float(smooth_error(sums, torch.tensor(len(right))))


def test_the_smooth_error_of_one_gap_is_that_gap_wherever_it_stands():
    for place in (0.05, 0.5, 0.98):
        assert smooth([place] * 2, [place + 0.02] * 2) == pytest.approx(0.02, abs=1e-6)
        assert smooth([place] * 2, [place - 0.02, place + 0.02]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("apart", [0.01, 0.1, 0.3])
def test_gaps_that_are_nearer_than_the_error_cancel(apart):
    """Two opposite Gaussians of mass 0.1 at 0.5 +- d leave 0.2 erf(d / (sqrt 2 width))."""
    width = smooth([0.5 - apart, 0.5 + apart], [0.7 - apart, 0.3 + apart])
    expected = 0.2 * math.erf(apart / (math.sqrt(2) * width))
    assert width == pytest.approx(expected, rel=0.06)  # of a grid of 1,000
