"""Steps that need float32 get it under any precision of the trainer."""

from typing import Any

import pytest
import torch

from kdlight.training.precision import full_float32
from tests.exactness.cases import CASES
from tests.exactness.harness import TinyImages, differing, fit, state

CPU = torch.device("cpu")
PAIRS = [
    "consistency_distillation",
    "consistency_training",
    "consistency_tuning",
    "truncated_consistency",
    "continuous_distillation",
    "continuous_training",
    "mean_flow",
]


def test_no_autocast_and_no_tensor_float_inside_and_all_as_before_outside() -> None:
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = torch.backends.cuda.matmul.fp32_precision, convolutions.fp32_precision
    with torch.autocast("cpu", torch.bfloat16):
        with full_float32(CPU):
            assert not torch.is_autocast_enabled("cpu")
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert convolutions.fp32_precision == "ieee"
        assert torch.is_autocast_enabled("cpu")
    assert (torch.backends.cuda.matmul.fp32_precision, convolutions.fp32_precision) == before


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_the_same_under_bfloat16(name: str) -> None:
    make = CASES[name].make
    full = fit(make(), TinyImages())
    mixed = fit(make(), TinyImages(), precision="bf16-mixed")
    assert not list(differing(state(full), state(mixed)))
