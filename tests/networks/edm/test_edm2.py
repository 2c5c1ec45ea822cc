"""EDM2's network gives what the original gave for the same weights and inputs."""

import json
import math

import pytest
import torch
from torch import nn

from kdlight.core.constraints import constrained
from kdlight.core.spec import build, spec_of
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.errors import InputError
from kdlight.networks.images.edm.edm2 import EDM2UNet
from kdlight.networks.images.edm.magnitude import MPConv, MPFourier, mp_cat, mp_silu, mp_sum
from tests.networks.edm.recipe import LABEL, NOISE, SIGMA, check, filled, images, parameters


def small(**settings) -> EDM2UNet:
    known = {
        "size": 16,
        "num_classes": 10,
        "model_channels": 64,
        "channel_mult": (1, 2),
        "num_blocks": 1,
        "attention": (8,),
    }
    return EDM2UNet(**{**known, **settings})


def test_original_outputs_and_gradients():
    network = filled(small())
    assert (parameters(network), len(network.state_dict())) == (2_890_059, 60)
    x = images(4).requires_grad_()
    output = network(x, NOISE, {"label": LABEL})
    check(output, -212.011, 744.285, (-0.153924, -0.210142, -0.103736, -0.137768))
    output.square().mean().backward()
    assert math.isclose(x.grad.norm(), 0.0117042, rel_tol=2e-5)
    estimate = EDMDenoiser(network)(images(4), SIGMA, {"label": LABEL})
    check(estimate, -100.591, 599.877, (0.0104996, -0.111393, 0.312168, -0.0887994))
    output = filled(small(num_classes=0))(images(4), NOISE)
    check(output, -77.6868, 801.905, (-0.117994, -0.207278, -0.17778, -0.181674))


@torch.no_grad()
def test_original_outputs_at_64_pixels_and_at_an_odd_size():
    network = filled(small(size=64, channel_mult=(1, 1, 1, 2), attention=(16, 8)))
    output = network(images(4, 64, 64), NOISE, {"label": LABEL})
    check(output, 12534.2, 16856.6, (0.236155, 0.341239, 0.646093, 0.0049781))
    network = filled(small(size=(12, 20), channels=1, num_classes=0, attention=(12,)))
    output = network(images(1, 12, 20), NOISE)
    check(output, 141.064, 170.557, (0.00498705, 0.60438, 0.248308, 0.0731865))


@pytest.mark.parametrize(
    ("width", "settings", "count"),
    [
        (64, {"num_classes": 1000}, 31_309_029),
        (192, {"num_classes": 1000}, 280_212_837),
        (192, {"num_classes": 1000, "channels": 3}, 280_209_381),
        (192, {}, 279_444_837),
        (448, {"num_classes": 1000}, 1_523_164_773),
    ],
)
def test_published_sizes(width, settings, count):
    with torch.device("meta"):
        # The files hold 128 weights more, of an uncertainty that only the training loss used.
        assert parameters(EDM2UNet(model_channels=width, **settings)) + 128 == count


@torch.no_grad()
def test_layers_preserve_magnitude():
    torch.manual_seed(0)
    a, b = torch.randn(64, 96, 16, 16), torch.randn(64, 32, 16, 16)
    layer = MPConv(96, 64, 3)
    inner = layer(a)[:, :, 1:-1, 1:-1]
    features = MPFourier(4096)(torch.linspace(-2, 2, 50))
    joined = mp_cat(a, b)
    for x in (inner, mp_silu(a), mp_sum(a, a.flip(0), 0.3), joined, features):
        assert x.square().mean().sqrt() == pytest.approx(1, abs=0.02)
    parts = joined[:, :96].square().sum(), joined[:, 96:].square().sum()
    assert parts[0] / parts[1] == pytest.approx(1, abs=0.02)
    grown = filled(MPConv(96, 64, 3))
    expected = grown(a)
    grown.weight *= 10
    torch.testing.assert_close(grown(a), expected, rtol=0.01, atol=1e-4)
    (part,) = constrained(nn.ModuleList([grown]))
    part.constrain()
    assert grown.weight[5].square().mean().sqrt() == pytest.approx(1, abs=1e-3)


def test_start_spec_and_refusals():
    network = small().eval()
    assert not network(images(4), NOISE, {"label": LABEL}).any()
    network = filled(small(dropout=0.1, null_class=True))
    again = build(json.loads(json.dumps(spec_of(network)))).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images(4), NOISE), network(images(4), NOISE))
    network(images(4), NOISE).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with pytest.raises(InputError, match="label: this network has no class"):
        small()(images(4), NOISE)
    with pytest.raises(InputError, match="model_channels: expected a multiple of 64 .* found 48"):
        small(model_channels=24)
