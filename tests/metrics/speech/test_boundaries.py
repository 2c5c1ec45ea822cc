"""Boundary figures by hand, and a published triple."""

import pytest
import torch

from kdlight.metrics.speech.boundaries import (
    BoundaryScores,
    around,
    between,
    edges,
    joints,
    matches,
    r_value,
)


def test_each_boundary_is_matched_once():
    assert matches([1.0, 1.02], around([1.01], 0.05)) == 1
    assert matches([1.0, 1.02], around([0.97, 1.06], 0.05)) == 2
    assert matches([0.0, 2.0], around([1.0], 0.05)) == 0
    assert matches([0.1], around([0.15], 0.05)) == 1
    assert matches([0.35, 0.4], between([(0.1, 0.3), (0.5, 0.6), (0.7, 0.9)], 0.02)) == 1


def test_figures_of_a_small_case():
    metric = BoundaryScores()
    metric.update([0.0, 1.0, 2.5], around([0.0, 1.04, 2.0, 3.0], 0.05))
    found = metric.compute()
    assert found["boundary_precision"] == pytest.approx(2 / 3)
    assert found["boundary_recall"] == pytest.approx(1 / 2)
    assert found["boundary_f1"] == pytest.approx(4 / 7)
    assert found["boundary_over_segmentation"] == pytest.approx(-1 / 4)


def test_r_value_of_a_perfect_cut_and_as_published():
    assert r_value(torch.tensor(1.0), torch.tensor(0.0)) == 1
    recall, precision = 0.7577, 0.6642
    over = recall / precision - 1
    assert over == pytest.approx(0.1408, abs=1e-4)
    assert r_value(torch.tensor(recall), torch.tensor(over)) == pytest.approx(0.7244, abs=1e-4)


def test_no_truth_no_figure():
    assert BoundaryScores("x_").compute()["x_f1"].isnan()


def test_a_shared_edge_counts_once_and_a_gap_has_one_joint():
    segments = [(0.1, 0.3), (0.3, 0.5), (0.7, 0.9)]
    assert edges(segments) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert joints(segments) == pytest.approx([0.3, 0.6])
