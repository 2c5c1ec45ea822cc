"""Every method of vision takes steps in bfloat16; what that cannot carry is in float32."""

import pytest
import torch
from torch.nn import functional as F

from kdlight.losses.guidance import global_contrastive_loss
from kdlight.losses.masked_images import relation_kl
from kdlight.networks.images.text_classifier import cosine_scores
from tests.exactness.harness import fit
from tests.exactness.vision_cases import VISION


@pytest.mark.parametrize("name", sorted(VISION))
def test_a_method_trains_in_bfloat16(name: str) -> None:
    case = VISION[name]
    module = fit(case.make(), case.data(), precision="bf16-mixed", max_steps=2)
    assert module.iteration == 2
    assert module.non_finite_total == 0


def test_what_bfloat16_cannot_carry_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    one, other = (F.normalize(each[0], dim=1) for each in (first, second))
    pairs = [(each[:, None], each[:, None]) for each in (first, second)]
    plain, mixed = [], []
    for found, enabled in ((plain, False), (mixed, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(cosine_scores(one, other, 0.07))
            found.append(relation_kl(*pairs, by_head=True))
            found.append(global_contrastive_loss(one[:, None], other[:, None], None, 0.07))
    assert all(map(torch.equal, plain, mixed))
