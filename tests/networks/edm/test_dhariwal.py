"""ADM gives what the original gave for the same weights and inputs."""

import json
import math

import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError
from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from tests.networks.edm.recipe import LABEL, NOISE, augment, check, filled, images, parameters


def small(**settings) -> DhariwalUNet:
    known = {
        "size": 16,
        "num_classes": 10,
        "augment_dim": 9,
        "model_channels": 64,
        "channel_mult": (1, 2),
        "num_blocks": 1,
        "attention": (8,),
    }
    return DhariwalUNet(**{**known, **settings})


def test_original_outputs_and_gradients():
    network = filled(small())
    assert parameters(network) == 3_296_515
    x = images().requires_grad_()
    output = network(x, NOISE, {"label": LABEL, "augment": augment()})
    check(output, -85.7305, 798.641, (0.238706, 0.447039, -0.154593, 0.304837))
    output.square().mean().backward()
    assert math.isclose(x.grad.norm(), 0.0316291, rel_tol=2e-5)
    none = filled(small(null_class=True))(images(), NOISE)
    check(none, -117.886, 720.832, (0.180837, 0.313861, -0.24782, 0.233188))


@torch.no_grad()
def test_original_outputs_at_64_pixels_and_at_an_odd_size():
    settings = {"channel_mult": (1, 1, 1, 2), "attention": (32, 16, 8), "augment_dim": 0}
    output = filled(small(size=64, **settings))(images(3, 64, 64), NOISE, {"label": LABEL})
    check(output, 4698.22, 13293.5, (0.325588, 0.510363, 0.801416, 0.432031))
    network = filled(small(size=(12, 20), channels=1, num_classes=0, attention=(12,)))
    output = network(images(1, 12, 20), NOISE, {"augment": augment()})
    check(output, 310.934, 332.375, (0.462549, 0.326387, 0.791414, 0.46718))


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"num_classes": 1000}, 295_899_267),
        ({"num_classes": 1000, "learned_variance": True}, 295_904_454),
        (
            {
                "size": 256,
                "model_channels": 256,
                "channel_mult": (1, 1, 2, 2, 4, 4),
                "num_blocks": 2,
                "scale_shift": False,
            },
            526_304_771,
        ),
    ],
)
def test_published_sizes(settings, count):
    with torch.device("meta"):
        assert parameters(DhariwalUNet(**settings)) == count


def test_initialisation():
    network = small()
    assert not network.eval()(images(), NOISE, {"label": LABEL}).any()
    block = network.enc["8x8_block0"]
    assert not any(part.any() for part in (*block.conv1.parameters(), *block.proj.parameters()))
    assert not network.map_augment.weight.any()
    assert math.isclose(network.map_label.weight.std(), 1, rel_tol=0.1)
    limit = 1 / math.sqrt(9 * 64)
    assert math.isclose(block.conv0.weight.std(), limit / math.sqrt(3), rel_tol=0.05)
    assert 0.9 * limit < block.conv0.weight.abs().max() <= limit


def test_settings_and_spec():
    network = filled(small(noise_scale=1000.0, learned_variance=True, heads=1, null_class=True))
    again = build(json.loads(json.dumps(spec_of(network)))).eval()
    again.load_state_dict(network.state_dict())
    output = network(images(), NOISE, {"label": LABEL})
    assert output.shape == (2, 3, 16, 16)
    assert torch.equal(again(images(), NOISE, {"label": LABEL}), output)
    with pytest.raises(InputError, match="label: this network has no class"):
        small()(images(), NOISE)
    with pytest.raises(InputError, match="model_channels: expected a multiple of 64 .* found 48"):
        small(model_channels=48, channel_mult=(1, 1))
