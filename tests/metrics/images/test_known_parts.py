import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.images.known_parts import KnownParts

GROUND, BRIGHT = -1.0, 1.0


def parts():
    """Two parts of 2 x 2 pixels, each on the left half, on one of two grounds."""
    variants = torch.zeros(2, 2, 1, 2, 2)
    variants[0, 0], variants[0, 1] = GROUND, GROUND
    variants[1, 0], variants[1, 1] = BRIGHT, BRIGHT
    variants[:, 1, :, 1] = 0.5  # the second ground shows in the lower row
    masks = torch.tensor([[[True, False], [True, False]]]).expand(2, 2, 2)
    return KnownParts(variants, masks, tolerance=0.2)


def test_a_part_counts_where_its_mask_is_and_on_any_of_its_grounds():
    metric = parts()
    images = torch.full((4, 1, 2, 2), 9.0)  # whatever stands outside the mask
    images[0, 0, :, 0] = GROUND
    images[1, 0, :, 0] = BRIGHT
    images[2, 0, :, 0] = torch.tensor([BRIGHT, 0.5])
    images[3, 0, :, 0] = 0.0  # a blend of the two
    metric.update(images)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == {"crisp": 0.75, "covered": 1.0, "non_finite": 0}
    metric.reset()
    metric.update(images[1:])
    assert float(metric.compute()["covered"]) == 0.5


@pytest.mark.parametrize(("error", "crisp"), [(0.199, 1.0), (0.201, 0.0)])
def test_the_tolerance_is_a_root_of_mean_squares(error, crisp):
    metric = parts()
    metric.update(torch.full((2, 1, 2, 2), GROUND + error))
    assert float(metric.compute()["crisp"]) == crisp


def test_bad_parts_and_samples_are_named():
    with pytest.raises(InputError, match="found a part without"):
        KnownParts(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool))
    with pytest.raises(InputError, match=r"images: expected the parts' shape \(1, 2, 2\), found"):
        parts().update(torch.zeros(2, 3, 2, 2))
