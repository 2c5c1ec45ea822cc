"""Cutting frames into syllables: exact pieces, limits, and what released programs get wrong."""

import math

import pytest
import torch

from kdlight.codec.syllables import (
    count_nuclei,
    greedy_segments,
    norm_threshold,
    refine_segments,
    segment_means,
    threshold_for_count,
)
from kdlight.errors import InputError

PIECES = [(0, 7), (7, 9), (9, 20), (24, 31)]


def pieces(noise=0.0, width=16):
    """Frames that are constant in each of ``PIECES``, with silence from 20 to 24 and at the end."""
    generator = torch.Generator().manual_seed(0)
    features = torch.zeros(33, width)
    for start, stop in PIECES:
        features[start:stop] = torch.randn(width, generator=generator)
    features = features + noise * torch.randn(33, width, generator=generator)
    speech = torch.zeros(33, dtype=torch.bool)
    for start, stop in PIECES:
        speech[start:stop] = True
    return features, speech


def test_constant_pieces_are_found_for_any_threshold_between_them():
    features, speech = pieces()
    means = torch.stack([features[start] for start, _ in PIECES])
    highest = torch.nn.functional.cosine_similarity(means[:-1], means[1:]).max()
    for threshold in (float(highest) + 1e-4, 0.9, 1 - 1e-9):
        assert greedy_segments(features, speech, threshold) == PIECES
        assert refine_segments(features, PIECES, threshold) == PIECES


def test_the_cut_ignores_the_scale():
    features, speech = pieces(0.5)
    found = greedy_segments(features, speech, 0.7)
    assert greedy_segments(1e-3 * features, speech, 0.7) == found


def test_every_segment_has_a_mean_of_its_own():
    """As released, the count goes on, and a later segment's mean sticks to its first frame."""
    generator = torch.Generator().manual_seed(2)
    directions = torch.eye(32)[:4].repeat_interleave(12, dim=0)
    features = directions + 0.12 * torch.randn(48, 32, generator=generator)
    found = greedy_segments(features, torch.ones(48, dtype=torch.bool), 0.6)
    assert found == [(0, 12), (12, 24), (24, 36), (36, 48)]

    count, segments, mean = 1, 1, features[0]
    for frame in features[1:]:
        if torch.nn.functional.cosine_similarity(mean, frame, dim=0) >= 0.6:
            mean = (count * mean + frame) / (count + 1)
        else:
            segments, mean = segments + 1, frame
        count += 1  # also where a segment begins, and 1 would be right
    assert segments == 6


def test_refinement_never_lowers_what_it_maximises_and_leaves_none_empty():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(30, 6, generator=generator)
        segments = [(0, 5), (5, 6), (6, 15), (15, 30)]
        found = refine_segments(features, segments, 2.0)  # nothing merges
        assert all(stop > start for start, stop in found)
        assert [found[0][0], found[-1][1]] == [0, 30]
        unit = torch.nn.functional.normalize(features.double(), dim=1)

        def score(place, first, middle, last, unit=unit, features=features):
            means = [features.double()[a:b].mean(0) for a, b in ((first, middle), (middle, last))]
            left, right = (torch.nn.functional.normalize(mean, dim=0) for mean in means)
            return float((unit[first:place] @ left).sum() + (unit[place:last] @ right).sum())

        # The first boundary was moved with the means of the segments as they were given.
        assert score(found[0][1], 0, 5, 6) >= score(5, 0, 5, 6) - 1e-12
    equal = torch.ones(10, 3)
    assert refine_segments(equal, [(0, 5), (5, 10)], 2.0) == [(0, 5), (5, 10)]
    assert refine_segments(equal, [(0, 5), (5, 10)], 0.99) == [(0, 10)]


def test_targets_are_means_inside_and_zero_outside():
    features, speech = pieces(0.3)
    segments = greedy_segments(features, speech, 0.5)
    means = segment_means(features, segments)
    for start, stop in segments:
        torch.testing.assert_close((features - means)[start:stop].sum(0), torch.zeros(16))
        assert (means[start:stop] == means[start]).all()
    assert not means[~speech].any()


def test_the_norm_between_speech_and_silence():
    """The published 2.6 is the formula's value of the published statistics."""
    found = norm_threshold(6.10, 0.87, 0.34, 0.34)
    assert found == pytest.approx(2.5999, abs=1e-4)

    def density(mean, variance):
        return math.exp(-((found - mean) ** 2) / (2 * variance)) / math.sqrt(variance)

    assert density(6.10, 0.87) == pytest.approx(density(0.34, 0.34), rel=1e-9)
    assert norm_threshold(3.0, 1.0, 1.0, 1.0) == pytest.approx(2.0)
    with pytest.raises(InputError, match="speech above silence"):
        norm_threshold(0.34, 0.34, 6.10, 0.87)


def test_the_threshold_gives_the_count():
    generator = torch.Generator().manual_seed(2)
    heard = [
        (torch.randn(200, 8, generator=generator).cumsum(0), torch.ones(200, dtype=torch.bool))
        for _ in range(3)
    ]
    threshold = threshold_for_count(heard, 60)
    count = sum(len(greedy_segments(*each, threshold)) for each in heard)
    assert count == pytest.approx(60, rel=0.05)
    with pytest.raises(InputError, match="fewer than 600 segments"):
        threshold_for_count(heard, 600)
    with pytest.raises(InputError, match="fewer than 0 segments"):
        threshold_for_count([(heard[0][0], torch.zeros(200, dtype=torch.bool))], 5)


def test_peaks_of_intensity_are_counted():
    time = torch.arange(32000) / 16000
    carrier = torch.sin(2 * torch.pi * 200 * time)
    beats = (0.5 - 0.5 * torch.cos(2 * torch.pi * 4 * time)).square()
    assert count_nuclei((beats * carrier)[None], 16000) == 8
    assert count_nuclei((0.01 * beats * carrier)[None], 16000) == 8
    assert count_nuclei(carrier[None], 16000) == 1
    assert count_nuclei(torch.zeros(1, 32000), 16000) == 0
    assert count_nuclei(torch.zeros(1, 0), 16000) == 0
    # A ripple of a decibel is no syllable.
    assert (
        count_nuclei(((1 + 0.05 * torch.cos(2 * torch.pi * 4 * time)) * carrier)[None], 16000) == 1
    )
