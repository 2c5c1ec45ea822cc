import json

import pytest
import torch
from torch import nn

from kdlight.cli import main
from kdlight.discrete.autoregressive import AutoregressiveGenerator
from kdlight.errors import InputError
from kdlight.losses.language.divergences import deviation_aware, forward_kl
from kdlight.networks.text.dual_binary import (
    DualBinary,
    DualBinaryLinear,
    first_scales,
    packed,
    packed_bits,
    planes,
    unpacked,
    valued,
)
from kdlight.storage.files import load_model, save_model
from kdlight.surgery.binary import dual_binary, packed_model
from tests.surgery.networks import batches, model_of

TOKENS = batches()[0][0]
STEP = torch.tensor([2.0, -1.0], dtype=torch.float64)


def nearest(weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    levels = torch.stack([scales[1], 0 * scales[0], scales.sum(), scales[0]])
    return levels[(weight[:, None] - levels).abs().argmin(dim=1)]


@pytest.mark.parametrize("scales", [STEP, -STEP, torch.tensor([1.95, -1.2]).double()])
def test_planes_are_the_nearest_of_the_four_values(scales):
    # 20,000 points, none of which lies between two levels.
    weight = torch.linspace(-4, 4, 20_000, dtype=torch.float64)
    found = valued(*planes(weight, scales), scales)
    assert torch.equal(found, nearest(weight, scales))


def test_a_bracket_elsewhere_is_not_the_nearest():
    weight = torch.linspace(-1.5, 2.5, 10_000, dtype=torch.float64)
    one, two = planes(weight, STEP)
    wrong = -(weight - STEP[0] * one) - STEP[1] / 2 > 0
    assert (wrong != two).double().mean() > 0.1
    off = (valued(one, wrong, STEP) - weight).square().mean()
    assert off > 1.5 * (valued(one, two, STEP) - weight).square().mean()


def test_the_error_of_normal_weights_is_the_known_one():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40_000, generator=generator, dtype=torch.float64)
    for scales, expected in ((1.05 * STEP, 0.150), (torch.tensor([1.95, -1.2]).double(), 0.138)):
        one, two = planes(weight, scales)
        error = (valued(one, two, scales) - weight).square().mean().item()
        assert error == pytest.approx(expected, abs=5e-3)
    assert one.double().mean().item() == pytest.approx(0.35, abs=0.06)
    start = first_scales(weight.reshape(20, -1)).abs().mean(dim=0)
    assert start[0].item() == pytest.approx(2 * start[1].item())
    assert start[1].item() == pytest.approx(1.05, abs=0.1)


def test_any_two_bit_tensor_is_kept_to_the_bit_also_mirrored():
    levels = torch.tensor([[-1.0, 0, 1, 2], [1, 0, -1, -2]]) * torch.tensor([[0.5], [0.25]])
    weight = levels[:, torch.tensor([0, 1, 2, 3, 3, 0, 1, 2])]
    linear = nn.Linear(8, 2, bias=False)
    linear.weight.data = weight
    layer = DualBinaryLinear(linear, 8)
    assert torch.equal(valued(*layer.bits(), layer.scales).flatten(1), weight)
    bits = layer.bits()[0].flatten(1)
    assert torch.equal(unpacked(packed_bits(bits), 8), bits)
    odd = torch.tensor([[True, False, True], [False, True, True]])
    assert packed_bits(odd).tolist() == [[5], [6]]
    assert torch.equal(unpacked(packed_bits(odd), 3), odd)


def test_two_products_of_bits_are_the_product_of_values():
    layer = DualBinaryLinear(nn.Linear(12, 5), 4).double()
    hidden = torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, two = (each.double() for each in layer.bits())
    parts = hidden.unflatten(1, (3, 4))
    sums = (torch.einsum("bgi,ogi->bog", parts, each) for each in (one, two))
    first, second = layer.scales.unbind(dim=-1)
    by_planes = sum((first, second)[n] * each for n, each in enumerate(sums)).sum(dim=2)
    torch.testing.assert_close(layer(hidden), by_planes + layer.bias)


def test_scales_learn_with_the_planes_of_the_moment_and_keep_their_order():
    layer = DualBinaryLinear(nn.Linear(4, 1, bias=False), 4)
    hidden = torch.tensor([[1.0, 2, 3, 4]])
    layer(hidden).sum().backward()
    one, two = (each.float() @ hidden[0] for each in layer.bits())
    torch.testing.assert_close(layer.scales.grad.flatten(), torch.cat([one[0], two[0]]))
    for bad in ([1.0, 3.0], [0.5, -2.0], [-0.5, 2.0], [0.0, 0.0]):
        layer.scales.data = torch.tensor([[bad]])
        layer.constrain()
        first, second = layer.scales.flatten().tolist()
        assert abs(first) > abs(second) > 0 > first * second
    good = torch.tensor([[[2.0, -1.0]]])
    layer.scales.data = good.clone()
    layer.constrain()
    assert torch.equal(layer.scales, good)


@pytest.mark.parametrize("kind", ["own", "llama"])
def test_packed_weights_give_equal_logits_from_a_small_file(kind, tmp_path):
    model = model_of(kind).float()
    small = dual_binary(model, 4)
    assert {n.rpartition(".")[2] for n, w in small.named_parameters() if w.requires_grad} == {
        "scales"
    }
    assert not torch.equal(small(TOKENS), model(TOKENS))
    save_model(AutoregressiveGenerator(small), tmp_path / "whole.safetensors")
    assert torch.equal(load_model(tmp_path / "whole.safetensors").denoiser(TOKENS), small(TOKENS))
    whole, output = tmp_path / "whole.safetensors", tmp_path / "small.safetensors"
    code = main(["export", "--checkpoint", str(whole), "--packed", "--output", str(output)])
    assert code == 0
    assert torch.equal(load_model(output).denoiser(TOKENS), small(TOKENS))
    count = sum(e.weight.numel() for e in small.modules() if isinstance(e, DualBinaryLinear))
    spared = whole.stat().st_size - output.stat().st_size
    assert spared > 4 * count - count / 4 - 4_000  # of names and shapes
    assert "PackedBinary" in json.dumps(json.loads(output.with_suffix(".json").read_text()))


def test_what_cannot_be_packed_is_named():
    with pytest.raises(InputError, match="--packed: expected a model with weights of two binary"):
        packed_model(AutoregressiveGenerator(model_of("own")))
    with pytest.raises(InputError, match=r"group: expected a divisor of the \d+ inputs of .*qkv"):
        dual_binary(model_of("own"), 7)
    with pytest.raises(InputError, match="expected linear layers beside the head, found none"):
        dual_binary(model_of("gpt2"), 4)


def test_the_weight_of_what_is_undecided_has_no_gradient():
    generator = torch.Generator().manual_seed(2)
    log_p, logits = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    log_p, leaf = log_p.log_softmax(-1), logits.requires_grad_()
    log_q = leaf.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    soft = forward_kl(log_p, log_q) + entropy
    torch.testing.assert_close(deviation_aware(log_p, log_q, 0.0), soft)
    weight = (entropy * -(log_q.exp() * log_q).sum(-1)).detach() ** 0.3
    found = deviation_aware(log_p, log_q, 0.3)
    torch.testing.assert_close(found, weight * soft)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    torch.testing.assert_close(gradient, weight[:, None] * (log_q.exp() - log_p.exp()))


def test_a_packed_network_is_one_of_the_same_kind():
    network = dual_binary(model_of("own"), 4).network
    assert isinstance(network, DualBinary)
    assert torch.equal(packed(network)(TOKENS), network(TOKENS))
