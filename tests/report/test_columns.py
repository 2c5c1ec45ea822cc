"""Every figure that a run can write has a heading and a word on the page."""

import pytest
import torch

from kdlight.callbacks.speech.token_probe import UNITS
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.metrics.images.extractors import ClassifierFeatures, bundled_classifier
from kdlight.metrics.images.forgetting import ForgettingMetrics
from kdlight.metrics.images.generation import GenerationMetrics
from kdlight.metrics.images.modes import ModeCoverage
from kdlight.metrics.speech.catalogue import SIGNAL_METRICS, WORD_METRICS
from kdlight.metrics.tokens.meaning import TokenMeaning
from kdlight.report.columns import COLUMNS, UNKNOWN, column, columns_of
from kdlight.report.figures.logged import TERM, logged_word


def without_word(keys) -> list[str]:
    return [item.key for item in columns_of(keys) if item.word == UNKNOWN]


def test_every_column_has_a_word_that_is_a_sentence():
    assert len({item.key for item in COLUMNS}) == len(COLUMNS)
    for item in COLUMNS:
        assert item.word.endswith((".", "?")), item.key
        assert 20 < len(item.word) < 200, item.key
        assert not item.word.startswith("The same"), f"{item.key}: a word stands alone"


@torch.no_grad()
def test_figures_of_images_have_words():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 1, 8, 8, generator=generator) * 2 - 1
    labels = torch.arange(40) % 10
    judge = bundled_classifier("digits_classifier")
    features = ClassifierFeatures(judge)
    real = [{"image": images, "label": labels}]
    forgetting = ForgettingMetrics(real, (1, 8, 8), [3], judge, features)
    metrics = GenerationMetrics(real, real, features, judge, forgetting=forgetting)
    metrics.update(images.flip(3), labels)
    row = metrics.row()
    assert "frechet_features_retained" in row
    assert without_word([*row, "non_finite", "teacher_gap", "ms_per_image", "speed_up"]) == []


@torch.no_grad()
def test_figures_of_points_have_words():
    law = MixtureDenoiser([[-0.5, 0.0], [0.5, 0.0]], variances=0.01)
    points = law.draw(100, torch.Generator().manual_seed(0))[0]
    real = [{"image": points}]
    metrics = GenerationMetrics(real, real, judges=[ModeCoverage(law)])
    metrics.update(points + 0.1)
    row = metrics.row()
    assert "strays" in row
    assert without_word(row) == []


def test_figures_of_speech_have_words():
    keys = [figure for metric in SIGNAL_METRICS.values() for figure in metric.figures]
    keys += [*WORD_METRICS, *(name.replace("wer", "wil") for name in WORD_METRICS)]
    keys += ["kbps", "rtf_encode", "rtf_decode", "token_cer", "token_wer", UNITS]
    meaning = TokenMeaning(1, 4, 3)
    assert without_word([*keys, *meaning.compute()]) == []


@pytest.mark.parametrize("space", ["inception", "transformers", "timm"])
def test_figures_of_other_features_say_which(space):
    assert space in column(f"frechet_{space}").word.lower()
    assert column(f"kernel_{space}").label == f"Kernel {space}"


def test_a_figure_that_is_not_known_says_so():
    assert column("beauty").word == UNKNOWN


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("val/accuracy", f"At validation. {column('accuracy').word}"),
        ("val/frechet_pixels_floor", "Fréchet pixels of as many real samples."),
        ("val/perplexity_2", "Number of codes of level 2 that, used evenly, would carry as much."),
        ("balance/kl", "Norm of the gradient that the term kl of the loss has at the sample."),
        ("train/distillation", TERM),
        ("val/beauty", "A figure of the validation."),
    ],
)
def test_logged_values_have_words(key, word):
    assert logged_word(key) == word
