import pytest
import torch

from kdlight.metrics.language.calibration import fitted_temperature


def test_logits_that_are_too_large_are_found_out():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 6, generator=draws)
    tokens = torch.multinomial(logits.softmax(1), 1, generator=draws)[:, 0]
    honest = fitted_temperature(logits, tokens)
    assert honest == pytest.approx(1, abs=0.03)
    assert fitted_temperature(2 * logits, tokens) == pytest.approx(2 * honest, rel=1e-5)
