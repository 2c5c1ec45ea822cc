import json

import pytest
import torch
from torch import nn

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.errors import InputError
from kdlight.networks.images.dit import DiT, sinusoidal
from kdlight.networks.images.unet import UNet2D


def unet(**kwargs):
    settings = {"size": 8, "channels": 1, "block_out_channels": (16, 16), **kwargs}
    return UNet2D(**settings)


def dit(**kwargs):
    settings = {"size": 8, "channels": 1, "width": 16, "depth": 2, "heads": 2, **kwargs}
    return DiT(**settings)


def lively(network):
    """The same random weights every time, also in layers that start at zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def images(count=3, channels=1, size=8):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", [unet, dit])
def test_label_and_its_absence(make):
    network = lively(make(num_classes=3))
    x, noise = images(), torch.tensor([10.0, 500.0, 999.0])
    with torch.no_grad():
        none = network(x, noise)
        null = network(x, noise, {"label": torch.full((3,), 3)})
        first = network(x, noise, {"label": torch.zeros(3).long()})
    assert none.shape == x.shape
    assert torch.equal(none, null)
    assert not torch.allclose(none, first)


@pytest.mark.parametrize("make", [unet, dit])
def test_an_unconditional_network_ignores_labels(make):
    network = lively(make())
    x, noise = images(), torch.tensor([10.0, 500.0, 999.0])
    assert network.num_classes == 0
    assert torch.equal(network(x, noise), network(x, noise, {"label": torch.zeros(3).long()}))


@pytest.mark.parametrize("make", [unet, dit])
def test_noise_scale_multiplies_the_noise_number(make):
    plain, scaled = lively(make()), lively(make(noise_scale=250.0))
    scaled.load_state_dict(plain.state_dict())
    x, noise = images(), torch.tensor([-1.5, 0.1, 1.0])
    with torch.no_grad():
        torch.testing.assert_close(scaled(x, noise), plain(x, 250 * noise))
        assert not torch.allclose(scaled(x, noise), plain(x, noise), atol=1e-3)


@pytest.mark.parametrize(
    "network",
    [
        unet(num_classes=4, attention=(True, False), dropout=0.1, noise_scale=3.0),
        unet(size=(8, 16), channels=2, options={"resnet_time_scale_shift": "scale_shift"}),
        dit(num_classes=4, patch_size=4, dropout=0.1, noise_scale=3.0),
    ],
)
def test_a_network_is_rebuilt_from_its_spec(network):
    network.eval()
    again = build(json.loads(json.dumps(spec_of(network)))).eval()
    again.load_state_dict(network.state_dict())
    x = torch.randn(2, *network.shape)
    assert torch.equal(again(x, torch.ones(2)), network(x, torch.ones(2)))


@pytest.mark.parametrize("make", [unet, dit])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_denoisers_run_in_the_precision_of_the_network(make, dtype):
    network = lively(make()).to(dtype)
    reference = lively(make())
    tolerance = 0.3 if dtype == torch.bfloat16 else 1e-4
    x, sigma = images(), torch.tensor(3.0, dtype=torch.float64)
    for wrap in (EDMDenoiser, VPDenoiser):
        with torch.no_grad():
            estimate, expected = wrap(network)(x, sigma), wrap(reference)(x, sigma)
        assert estimate.dtype == torch.float32
        error = (estimate - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert error < tolerance


@pytest.mark.parametrize("make", [unet, dit])
def test_gradients_reach_every_parameter(make):
    network = lively(make(num_classes=2)).train()
    network(images(), torch.ones(3), {"label": torch.tensor([0, 1, 2])}).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_unet_is_that_of_diffusers():
    network = lively(unet(num_classes=2))
    x, timestep = images(), torch.tensor([0, 5, 999])
    label = torch.tensor([0, 1, 2])
    with torch.no_grad():
        theirs = network.model(x, timestep, class_labels=label).sample
        assert torch.equal(network(x, timestep.float(), {"label": label}), theirs)


@pytest.mark.parametrize(
    ("widths", "groups"),
    [((8, 8), 2), ((16, 16), 4), ((32, 64), 8), ((24, 48), 6), ((128, 256), 32)],
)
def test_no_normalisation_group_is_so_small_that_it_cancels_the_noise_level(widths, groups):
    network = unet(block_out_channels=widths)
    assert network.model.config.norm_num_groups == groups
    # As built, not only with random weights: the noise level has to reach the output.
    x = images()
    with torch.no_grad():
        near, far = (network(x, torch.full((3,), t)) for t in (1.0, 900.0))
    assert (near - far).std() > 0.01 * near.std()


def test_unet_without_a_null_class_needs_a_label():
    network = unet(num_classes=2, null_class=False)
    assert network.model.class_embedding.num_embeddings == 2
    with pytest.raises(InputError, match="label"):
        network(images(), torch.ones(3))


def test_dit_starts_at_zero_and_can_tell_places_apart():
    assert not dit()(images(), torch.ones(3)).any()
    network = lively(dit())
    output = network(torch.zeros(1, 1, 8, 8), torch.ones(1))
    patches = nn.functional.unfold(output, 2, stride=2)[0].T
    assert len(patches.unique(dim=0)) == 16


def test_dit_of_a_rectangle_tells_rows_from_columns():
    output = lively(dit(size=(4, 8)))(torch.zeros(1, 1, 4, 8), torch.ones(1))
    patches = output[0, 0].unfold(0, 2, 2).unfold(1, 2, 2).reshape(8, 4)
    assert output.shape == (1, 1, 4, 8)
    assert torch.cdist(patches, patches).fill_diagonal_(1).min() > 1e-3
    with pytest.raises(InputError, match="multiples of patch_size 2, found 4 x 7"):
        dit(size=(4, 7))


def test_sinusoidal_embedding_by_hand():
    embedding = sinusoidal(torch.tensor([2.0]), 4)
    expected = torch.tensor([[2.0, 0.02]])
    torch.testing.assert_close(embedding, torch.cat([expected.cos(), expected.sin()], 1))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (unet, {"size": 9}, "size: expected multiples of 2"),
        (unet, {"attention": (True,)}, "attention: expected one value"),
        (dit, {"size": 9}, "size: expected multiples of patch_size 2"),
        (dit, {"width": 18}, "width: expected a multiple of 4"),
    ],
)
def test_wrong_sizes_are_named(make, arguments, message):
    with pytest.raises(InputError, match=message):
        make(**arguments)
