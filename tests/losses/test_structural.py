"""Structural similarity with padding."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from kdlight.losses.structural import ssim_loss, structural_similarity
from kdlight.losses.synthesis import mel_loss


@pytest.fixture
def pair():
    torch.manual_seed(0)
    x = torch.randn(2, 20, 30, dtype=torch.float64)
    return x, x + 0.3 * torch.randn_like(x)


def test_it_is_the_usual_one_inside(pair):
    x, y = pair
    found = structural_similarity(x, y, torch.ones(2, 30, dtype=torch.bool), 6.0)
    _, usual = structural_similarity_index_measure(
        x[:, None], y[:, None], data_range=6.0, return_full_image=True
    )
    inside = (slice(None), slice(5, -5), slice(5, -5))
    torch.testing.assert_close(found[inside], usual[:, 0][inside], atol=1e-9, rtol=1e-9)


def test_equal_ones_have_no_loss_and_padding_has_no_part(pair):
    x, y = pair
    mask = torch.arange(30) < torch.tensor([[30], [17]])
    assert float(ssim_loss(x, x, mask, 6.0)) == pytest.approx(0, abs=1e-6)
    # Fifty frames more, whatever stands there: an average over padding, as the released program
    # takes it, changes here.
    longer = [torch.cat([each, 5 * torch.randn(2, 20, 50).double()], dim=2) for each in pair]
    wider = torch.nn.functional.pad(mask, (0, 50))
    for loss in (lambda *args: ssim_loss(*args, 6.0), mel_loss):
        torch.testing.assert_close(loss(*longer, wider), loss(x, y, mask))


def test_it_is_below_one_for_others_and_has_a_gradient(pair):
    x, y = pair
    mask = torch.ones(2, 30, dtype=torch.bool)
    y.requires_grad_(True)
    loss = ssim_loss(y, x, mask, 6.0)
    assert 0 < float(loss) < 1
    loss.backward()
    assert y.grad.isfinite().all()
