"""DDPM++ and NCSN++ give what the originals gave for the same weights and inputs."""

import json
import math

import pytest
import torch
from torch import nn

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.errors import InputError
from kdlight.networks.images.edm.block import UNetBlock
from kdlight.networks.images.edm.resampling import ConvThenDown, Resample
from kdlight.networks.images.edm.song import SongUNet
from tests.networks.edm.recipe import (
    LABEL,
    NOISE,
    SIGMA,
    augment,
    check,
    filled,
    images,
    parameters,
)

NCSNPP = {"embedding": "fourier", "noise_width": 2, "encoder": "residual", "taps": (1, 3, 3, 1)}


def small(**settings) -> SongUNet:
    known = {
        "size": 16,
        "num_classes": 10,
        "augment_dim": 9,
        "model_channels": 32,
        "channel_mult": (1, 2),
        "num_blocks": 1,
        "attention": (8,),
    }
    return SongUNet(**{**known, **settings})


@pytest.mark.parametrize(
    ("settings", "count", "gradient", "digits"),
    [
        (
            {},
            750_531,
            0.0270001,
            (383.687, 823.147, (-0.169902, -0.0186735, -0.5534, -0.0379925)),
        ),
        (
            NCSNPP,
            756_163,
            0.0211685,
            (302.291, 790.939, (-0.332206, 0.0520854, -0.696448, -0.183471)),
        ),
    ],
    ids=["ddpmpp", "ncsnpp"],
)
def test_original_outputs_and_gradients(settings, count, gradient, digits):
    network = filled(small(**settings))
    assert parameters(network) == count
    x = images().requires_grad_()
    output = network(x, NOISE, {"label": LABEL, "augment": augment()})
    check(output, *digits)
    output.square().mean().backward()
    assert math.isclose(x.grad.norm(), gradient, rel_tol=2e-5)


@torch.no_grad()
def test_no_augmentation_and_the_denoiser():
    network = filled(small())
    output = network(images(), NOISE, {"label": LABEL})
    check(output, 273.632, 809.116, (-0.100231, 0.241276, -0.55318, -0.0537788))
    estimate = EDMDenoiser(network)(images(), SIGMA, {"label": LABEL})
    check(estimate, 129.531, 551.588, (0.0321401, -0.0171004, 0.109289, -0.0644493))


@pytest.mark.parametrize(
    ("settings", "cifar", "odd"),
    [
        (
            {},
            (132.301, 2826.55, (0.296651, -0.582584, -0.104284, 0.306945)),
            (-95.9743, 187.162, (-0.0945527, -0.290618, -0.30206, -0.0554539)),
        ),
        (
            NCSNPP,
            (553.779, 2691.72, (0.137806, -0.550948, 0.12746, 0.245114)),
            (-106.429, 188.504, (-0.165251, -0.609089, -0.344612, 0.0220718)),
        ),
    ],
    ids=["ddpmpp", "ncsnpp"],
)
@torch.no_grad()
def test_original_outputs_at_the_depth_of_cifar_and_at_an_odd_size(settings, cifar, odd):
    network = filled(SongUNet(num_classes=10, augment_dim=9, model_channels=32, **settings))
    output = network(images(3, 32, 32), NOISE, {"label": LABEL, "augment": augment()})
    check(output, *cifar)
    network = filled(small(size=(12, 20), channels=1, num_classes=0, attention=(12,), **settings))
    check(network(images(1, 12, 20), NOISE, {"augment": augment()}), *odd)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"num_classes": 10}, 55_735_299),
        ({}, 55_733_891),
        ({"num_classes": 10, **NCSNPP}, 56_400_643),
        (NCSNPP, 56_397_827),
        ({"size": 64, "channel_mult": (1, 2, 2, 2)}, 61_805_571),
        ({"size": 64, "channel_mult": (1, 2, 2, 2), **NCSNPP}, 62_761_091),
    ],
)
def test_published_sizes(settings, count):
    with torch.device("meta"):
        assert parameters(SongUNet(augment_dim=9, **settings)) == count


def test_initialisation():
    network = SongUNet(num_classes=10, augment_dim=9, model_channels=64, num_blocks=1)
    block = network.enc["16x16_block0"]
    fan = 9 * 128
    assert math.isclose(block.conv0.weight.std(), math.sqrt(1 / fan), rel_tol=0.02)
    assert math.isclose(block.qkv.weight.std(), math.sqrt(0.2 * 2 / (4 * 128)), rel_tol=0.02)
    for layer in (block.conv1, block.proj, network.dec["32x32_aux_conv"]):
        assert 0 < layer.weight.abs().max() < 1e-5
    assert math.isclose(network.map_label.weight.std(), math.sqrt(2 / (10 + 64)), rel_tol=0.1)
    layers = [part for part in network.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    assert not any(layer.bias.any() for layer in layers if layer.bias is not None)


def test_dropout_is_before_the_second_convolution_alone():
    torch.manual_seed(0)
    block = filled(UNetBlock(8, 8, 4, dropout=1.0)).train()
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    expected = x + block.conv1.bias[:, None, None]
    torch.testing.assert_close(block(x, embedding), expected)


def test_resampling():
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(Resample((1, 1), "down")(x), nn.functional.avg_pool2d(x, 2))
    assert torch.equal(Resample((1, 1), "up")(x), nn.functional.interpolate(x, scale_factor=2))
    ones = torch.ones(1, 1, 6, 6)
    down, up = Resample((1, 3, 3, 1), "down")(ones), Resample((1, 3, 3, 1), "up")(ones)
    assert down[0, 0, 0].tolist() == [0.765625, 0.875, 0.765625]
    assert up[0, 0, 0].tolist() == [0.5625, *[0.75] * 10, 0.5625]
    residual = ConvThenDown(1, 1, (1, 3, 3, 1))
    nn.init.zeros_(residual.weight)
    assert residual(ones).shape == (1, 1, 3, 3)


def test_labels():
    network = filled(small())
    with pytest.raises(InputError, match="label: this network has no class for a missing label"):
        network(images(), NOISE)
    network = filled(small(null_class=True))
    null = network(images(), NOISE, {"label": torch.tensor([10, 10])})
    assert torch.equal(network(images(), NOISE), null)
    assert not torch.equal(network(images(), NOISE, {"label": LABEL}), null)


def test_a_learned_variance_is_not_given_out():
    network = filled(small(learned_variance=True))
    assert network.dec["16x16_aux_conv"].out_channels == 6
    assert network(images(), NOISE, {"label": LABEL}).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("settings", [{}, NCSNPP], ids=["ddpmpp", "ncsnpp"])
def test_spec_and_gradients(settings):
    network = filled(small(**settings))
    again = build(json.loads(json.dumps(spec_of(network)))).eval()
    again.load_state_dict(network.state_dict())
    condition = {"label": LABEL, "augment": augment()}
    output = network(images(), NOISE, condition)
    assert torch.equal(again(images(), NOISE, condition), output)
    network(images(), NOISE, {"label": LABEL}).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 9}, "size: expected multiples of 2 for 2 resolutions, found 9 x 9"),
        ({"embedding": "sine"}, "embedding: expected positional or fourier, found 'sine'"),
        ({"encoder": "skip"}, "encoder: expected standard or residual, found 'skip'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)
