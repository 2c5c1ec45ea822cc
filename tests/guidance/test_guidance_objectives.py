"""Objectives and guidances as parts: they are the losses, units are found once, levels combine."""

import math
from typing import Any

import pytest
import torch

from kdlight.errors import InputError
from kdlight.guidance import objectives as parts
from kdlight.guidance.guidance import Fusion, Guidance
from kdlight.guidance.speech import SpeechSource
from kdlight.losses import guidance as losses
from tests.guidance.tiny_guidance import Loudness


def pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 9, 4, generator=generator)
    return student, teacher, torch.arange(9) < torch.tensor([[9], [5]])


@pytest.mark.parametrize(
    ("part", "loss"),
    [
        (parts.DAxis(), losses.d_axis_loss),
        (parts.TAxis(), losses.t_axis_loss),
        (parts.Cosine(), losses.cosine_loss),
        (parts.MeanSquare(), losses.mse_loss),
        (parts.GlobalContrast(), losses.global_contrastive_loss),
        (parts.WindowedContrast(), losses.windowed_contrastive_loss),
    ],
)
def test_an_objective_is_its_loss(part: parts.Objective, loss: Any) -> None:
    assert torch.equal(part(*pair()), loss(*pair()))
    assert part.width(7) == 7


def test_units_are_found_once_and_travel_with_the_checkpoint() -> None:
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(3, (2, 40), generator=generator)
    features = centres[labels] + 0.1 * torch.randn(2, 40, 2, generator=generator)
    objective = parts.PseudoLabels(clusters=3, seed=2)
    assert objective.width(2) == 3
    objective.prepare(features)
    found = objective.units(features)
    for label in range(3):
        assert len(found[labels == label].unique()) == 1, "a cluster is one unit"
    flat = objective(torch.zeros(2, 40, 3), features, torch.ones(2, 40, dtype=torch.bool))
    assert flat.item() == pytest.approx(math.log(3))
    other = parts.PseudoLabels(clusters=3)
    other.width(2)
    other.load_state_dict(objective.state_dict())
    other.prepare(5 * features)
    assert torch.equal(other.centroids, objective.centroids)
    with pytest.raises(InputError, match="clusters: expected at most 80"):
        few = parts.PseudoLabels(clusters=81)
        few.width(2)
        few.prepare(features)


def guidance(**settings: Any) -> Guidance:
    return Guidance(SpeechSource(Loudness()), parts.DAxis(), **settings)


def test_levels_combine_as_told() -> None:
    levels = tuple(torch.full((1, 2, 5), float(value)) for value in (1, 2, 4))
    assert [len(each.chosen(levels)) for each in (guidance(), guidance(levels=[2, 3]))] == [1, 1]
    (mean,) = guidance(levels=[1, 2, 3]).chosen(levels)
    assert mean.shape == (1, 5, 2)
    assert mean.unique().tolist() == [pytest.approx(7 / 3)]
    (total,) = guidance(levels=[1, 3], combine="sum").chosen(levels)
    assert total.unique().tolist() == [5]
    each = guidance(levels=[3, 1], combine="each").chosen(levels)
    assert [part.unique().item() for part in each] == [4, 1]
    # Quantiser dropout left one level.
    (left,) = guidance(levels=[1, 3]).chosen(levels[:1])
    assert left.unique().tolist() == [1]
    assert guidance(levels=[2]).chosen(levels[:1]) == []


def test_the_weight_rises_over_the_ramp() -> None:
    ramp = guidance(start=2, ramp=3)
    assert [ramp.share(step) for step in range(7)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert guidance().share(0) == 1


def test_a_normalised_head_does_not_see_the_scale() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 5, 6)
    for normalise in (True, False):
        head = guidance(normalise=normalise).make_head("x", 6)
        assert head(features).shape == (2, 5, 3)
        same = torch.allclose(head(features), head(9 * features), atol=1e-4)
        assert same == normalise
    assert sum(each.numel() for each in guidance(head="none").make_head("x", 3).parameters()) == 0


def test_bad_settings_are_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"levels: expected different numbers from 1, found \[0\]"):
        guidance(levels=[0])
    with pytest.raises(InputError, match="levels: expected different"):
        guidance(levels=[1, 1])
    with pytest.raises(InputError, match="ramp: expected at least 0"):
        guidance(ramp=-1)
    with pytest.raises(InputError, match=r"guidances\.x\.head: expected a head"):
        guidance(head="none").make_head("x", 4)
    with pytest.raises(InputError, match="dropout: expected a share"):
        Fusion(SpeechSource(Loudness()), dropout=2)
