"""Distances of samples against hand values, and their gradients."""

import math

import pytest
import torch
from torch import nn
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision.models.vgg import cfgs, make_layers

from kdlight.errors import InputError
from kdlight.losses.distances import L1, LPIPS, FeatureDistance, PseudoHuber, SquaredL2
from kdlight.networks.images.classifier import SmallClassifier

ZERO = torch.zeros(2, 1, 2, 2)
# Differences of length 3 and of length 0.
OFF = torch.tensor([[[[2.0, 1.0], [2.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])


def test_hand_values() -> None:
    assert SquaredL2()(OFF, ZERO).tolist() == [9 / 4, 0.0]
    assert L1()(OFF, ZERO).tolist() == [5 / 4, 0.0]
    # sqrt(9 + 16) - 4, over the whole sample and not element by element.
    assert PseudoHuber(4.0)(OFF, ZERO).tolist() == [1.0, 0.0]
    assert PseudoHuber(0.0)(OFF, ZERO).tolist() == [3.0, 0.0]


def test_the_default_c_of_pseudo_huber() -> None:
    # CIFAR-10, d = 3072: the paper rounds 0.02993 to 0.03.
    c = 0.00054 * math.sqrt(3072)
    assert c == pytest.approx(0.02993, abs=5e-6)
    a = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    b = torch.zeros_like(a)
    assert torch.equal(PseudoHuber()(a, b), PseudoHuber(c)(a, b))


def test_pseudo_huber_lies_between_its_limits() -> None:
    a, b = OFF.double(), ZERO.double()
    far = PseudoHuber(1e-6)(a, b)[0]
    assert far == pytest.approx(3.0, abs=2e-6)
    near = PseudoHuber(1e3)(a, b)[0]
    assert near == pytest.approx(9 / (2 * 1e3), rel=1e-5)


@pytest.mark.parametrize("distance", [SquaredL2(), L1(), PseudoHuber(), PseudoHuber(0.0)])
def test_gradients_against_finite_differences(distance) -> None:
    a = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: distance(x, b), (a,))


@pytest.mark.parametrize("distance", [SquaredL2(), L1(), PseudoHuber(), PseudoHuber(0.0)])
def test_equal_samples_are_at_0_with_a_finite_gradient_and_no_gradient_to_the_target(
    distance,
) -> None:
    a = torch.ones(2, 3, requires_grad=True)
    b = torch.ones(2, 3, requires_grad=True)
    found = distance(a, b)
    assert found.tolist() == [0.0, 0.0]
    found.sum().backward()
    assert a.grad is not None
    assert torch.equal(a.grad, torch.zeros(2, 3))
    assert b.grad is None


def test_low_precision_is_measured_in_float32() -> None:
    a, b = torch.full((1, 3072), 1.0).bfloat16(), torch.zeros(1, 3072).bfloat16()
    assert PseudoHuber(0.0)(a, b).item() == pytest.approx(math.sqrt(3072), rel=1e-6)


def test_feature_distance_is_lpips_on_the_layers_named() -> None:
    network = SmallClassifier()
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    distance = FeatureDistance(network, layers[:1])
    a = torch.randn(4, 1, 8, 8, requires_grad=True)
    b = torch.randn(4, 1, 8, 8, requires_grad=True)
    found = distance(a, b)
    seen = []
    hook = network.get_submodule(layers[0]).register_forward_hook(
        lambda module, inputs, output: seen.append(nn.functional.normalize(output))
    )
    network(a)
    network(b)
    hook.remove()
    torch.testing.assert_close(found, (seen[0] - seen[1]).square().sum(1))
    found.sum().backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0
    assert b.grad is None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert distance(a, a).tolist() == [0.0] * 4


def test_networks_of_imagenet_see_what_they_were_trained_on() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3))
    seen: list[torch.Tensor] = []
    network[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grey = torch.full((1, 3, 8, 8), 2 * 0.485 - 1)
    FeatureDistance(network, ["0"], "imagenet", 16)(grey, grey)
    channels = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
    expected = [(0.485 - mean) / deviation for mean, deviation in channels]
    assert seen[0].shape == (1, 3, 16, 16)
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.tensor(expected))
    FeatureDistance(network, ["0"])(grey, grey)
    assert torch.equal(seen[-1], grey)
    with pytest.raises(InputError, match="inputs: expected signed or imagenet, found 'caffe'"):
        FeatureDistance(network, ["0"], "caffe")  # type: ignore[arg-type]


def test_lpips_is_torchmetrics_own() -> None:
    torch.manual_seed(0)
    network = nn.Module()
    network.features = make_layers(cfgs["D"])
    network.forward = network.features.forward
    original = _LPIPS(net="vgg", pnet_rand=True)
    slices = [getattr(original.net, f"slice{number}") for number in range(1, 6)]
    for index, module in (pair for each in slices for pair in each.named_children()):
        network.features[int(index)].load_state_dict(module.state_dict())
    a = torch.rand(2, 3, 32, 32) * 2 - 1
    b = (a + 0.3 * torch.randn_like(a)).requires_grad_()
    distance = LPIPS(network)
    found = distance(b, a)
    torch.testing.assert_close(found, original(b, a).flatten())
    found.sum().backward()
    assert b.grad is not None
    assert b.grad.isfinite().all()
    assert distance(a, a).tolist() == [0.0, 0.0]
    for each in slices:
        for index, module in each.named_children():
            if isinstance(module, nn.MaxPool2d):
                setattr(each, index, nn.AvgPool2d(2))
    averaged = LPIPS(network, average_pooling=True)(b, a)
    torch.testing.assert_close(averaged, original(b, a).flatten())
    assert (averaged - found).abs().min() > 1e-4
    with pytest.raises(InputError, match="layers: expected names of submodules"):
        LPIPS(nn.Sequential(nn.Linear(1, 1)))


def test_unknown_layers_and_a_negative_c_are_refused() -> None:
    with pytest.raises(InputError, match="layers: expected names of submodules .* found nope"):
        FeatureDistance(nn.Sequential(nn.Linear(1, 1)), ["nope"])
    with pytest.raises(InputError, match="c: expected a number of at least 0, found -1"):
        PseudoHuber(-1)
