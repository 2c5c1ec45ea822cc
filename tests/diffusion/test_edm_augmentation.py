"""EDM's augmentation does, draw by draw, what the original does."""

import math

import pytest
import torch
from torch import Tensor

from kdlight.diffusion.edm_augmentation import EDMAugmentation, labels_of, transform
from kdlight.errors import InputError
from tests.networks.edm.recipe import check, images

NAMES = ("across", "over", "scale", "angle", "stretch", "axis", "right", "down")


def fixed(count: int = 2, **values: float) -> Tensor:
    return torch.tensor([[values.get(name, 0.0) for name in NAMES]]).repeat(count, 1)


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ({"angle": math.pi / 2}, (-23.2406, 1171.2, (-0.79849, -0.2726, 1.98874))),
        ({"right": 1, "down": 1}, (-26.5217, 1175.96, (0.21466, 0.54085, -0.15922))),
        ({"scale": 1}, (-57.8667, 1025.06, (-0.34058, 0.26028, 1.05022))),
        ({"stretch": 1, "axis": -math.pi / 2}, (-59.5554, 955.894, (-0.28425, -0.53266, -0.25992))),
    ],
)
def test_original_outputs(values, digits):
    check(transform(images(), fixed(**values)), *digits)


def test_original_output_and_label_of_all_at_once():
    half = dict.fromkeys(("scale", "stretch", "right", "down"), 0.5)
    turned = dict.fromkeys(("angle", "axis"), -math.pi / 2)
    parameters = fixed(across=1, over=1, **half, **turned)
    check(transform(images(), parameters), -47.1535, 1098.67, (-0.01381, -0.79661, -0.31961))
    expected = torch.tensor([1, 1, 0.5, -1, -1, 0, -0.5, 0.5, 0.5])
    torch.testing.assert_close(labels_of(parameters)[0], expected)


def test_flips_move_pixels_and_nothing_else():
    x = images()
    assert torch.equal(transform(x, fixed(across=1)), x.flip(3))
    assert torch.equal(transform(x, fixed(over=1)), x.flip(2))
    mixed = torch.cat([fixed(1), fixed(1, scale=1)])
    assert torch.equal(transform(x, mixed)[0], x[0])
    assert not torch.equal(transform(x, mixed)[1], x[1])


def test_whole_pixels_and_quarter_turns():
    x = images(3, 16, 32)
    moved = transform(x, fixed(right=1, down=1))
    inside = torch.roll(x, (2, 4), (2, 3))[:, :, 2:, 4:]
    torch.testing.assert_close(moved[:, :, 2:, 4:], inside, rtol=0, atol=3e-5)
    line = torch.linspace(-2, 2, 16)
    blob = torch.exp(-((line[:, None] - 0.5) ** 2) - (line + 0.3) ** 2).expand(2, 3, 16, 16)
    turned = transform(blob, fixed(angle=math.pi / 2))
    torch.testing.assert_close(turned, blob.rot90(1, (2, 3)), rtol=0, atol=0.02)


def test_laws_of_what_is_told():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(20_000, EDMAugmentation.draws, generator=generator)
    uniform = torch.rand(20_000, generator=generator)
    told = labels_of(EDMAugmentation(1.0).parameters(normal, uniform))
    mean = torch.tensor([0.5, 0.5, 0, -1, 0, 0, 0, 0, 0])
    spread = torch.tensor([0.5, 0.5, 1, 0.71, 0.71, 0.86, 0.51, 1, 1])
    torch.testing.assert_close(told.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(told.std(0), spread, rtol=0, atol=0.03)
    some = EDMAugmentation(0.12).parameters(normal, uniform)
    changed = some[:, 1:].ne(0).any(dim=1).double().mean()
    # A flip upside down is a coin that is kept: 1 - 0.94 * 0.88^4.
    assert changed == pytest.approx(1 - 0.94 * 0.88**4, abs=0.01)
    assert some[:, 0].mean() == pytest.approx(0.5, abs=0.01)


def test_a_batch():
    augmentation, x = EDMAugmentation(0.5), torch.randn(64, 3, 8, 8)
    normal, uniform = torch.randn(64, 13), torch.rand(64)
    with torch.autocast("cpu", torch.bfloat16):
        image, vector = augmentation(x, normal, uniform)
    assert (image.dtype, vector.shape) == (torch.float32, (64, 9))
    alone, _ = augmentation(x[:7], normal[:7], uniform[:7])
    torch.testing.assert_close(alone, image[:7])
    same, nothing = EDMAugmentation(0)(x, normal, uniform)
    assert torch.equal(same, x)
    assert not nothing.any()
    with pytest.raises(InputError, match=r"probability: expected a number in \[0, 1\], found 2"):
        EDMAugmentation(2)
