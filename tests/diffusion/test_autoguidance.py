"""A model guided by a lesser one."""

import pytest
import torch

from kdlight.diffusion.autoguidance import AutoguidedDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.diffusion.students import unguided
from kdlight.errors import InputError
from kdlight.networks.mlp import ScaleShiftMLP
from tests.networks.edm.recipe import LABEL, SIGMA, filled


@torch.no_grad()
def test_guided_by_another_network() -> None:
    model = EDMDenoiser(filled(ScaleShiftMLP([2], 8, 1, 10)))
    guide = EDMDenoiser(filled(ScaleShiftMLP([2], 4, 1, 0)))
    x, condition = torch.randn(2, 2), {"label": LABEL}
    strong, weak = model(x, SIGMA, condition), guide(x, SIGMA)
    guided = AutoguidedDenoiser(model, guide, 3.0)
    torch.testing.assert_close(guided(x, SIGMA, condition), weak + 3 * (strong - weak))
    assert (guided.network_calls, guided.num_classes) == (2, 10)
    plain = AutoguidedDenoiser(model, guide)
    assert torch.equal(plain(x, SIGMA, condition), strong)
    assert plain.network_calls == 1
    assert unguided(Generator(guided, KarrasGrid(), [2])) is model
    with pytest.raises(InputError, match="guide: expected 0 classes or none, found 10"):
        AutoguidedDenoiser(guide, model)
