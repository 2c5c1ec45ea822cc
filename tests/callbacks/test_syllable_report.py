"""Boundaries of a report: where they are asked for, and what refinement moves."""

import math
from types import SimpleNamespace

import pytest
import torch

from kdlight.callbacks.speech.syllables import Listener, within


def test_only_what_lies_between_the_first_vowel_and_the_last_is_asked_for():
    segments = [(0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9)]
    assert within(segments, [(0.05, 0.2), (0.4, 0.5)]) == [0.3]
    # A frame inside a vowel still counts: there a boundary would be right.
    assert within(segments, [(0.05, 0.115), (0.4, 0.5)]) == [0.1, 0.3]


def test_a_recording_is_cut_before_and_after_refinement_at_one_threshold():
    # Frames along one axis, three that lean to the other, and frames along that: the greedy cut
    # comes late, refinement gives the three to the segment that they are more like.
    angles = math.pi * torch.tensor([0.0] * 8 + [0.3] * 3 + [0.5] * 5)
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    encoder = SimpleNamespace(
        whole=lambda audio: (audio[None], torch.tensor([16])),
        speech=lambda audio, lengths: torch.ones(1, 16, dtype=torch.bool),
        frame_rate=10.0,
    )
    listener = Listener(encoder, lambda audio, lengths, grid: None)
    listener.features = lambda audio, lengths: features
    listener.threshold = 0.55
    found, refined, seconds = listener.segments(SimpleNamespace(read=lambda: torch.zeros(1, 16)))
    assert seconds == pytest.approx(1.6)
    assert [end for _, end in found] == pytest.approx([1.1, 1.6])
    assert [end for _, end in refined] == pytest.approx([0.8, 1.6])
