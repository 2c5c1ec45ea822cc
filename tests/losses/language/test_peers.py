"""The same logits through other programs: TRL 1.16.0's GKD, DistillKit a61c2e7, torchdistill 1.1.5.

Their functions were run in float32 on these logits; each number is a mean over counted tokens.
"""

import pytest
import torch
from torch import Tensor

from kdlight.losses.language import pointwise
from kdlight.losses.language.objective import Objective


def logits() -> tuple[Tensor, Tensor]:
    n = torch.arange(3 * 5 * 7, dtype=torch.float32)
    student = 2 * torch.sin(1.7 * n + 0.3).view(3, 5, 7)
    return student, 3 * torch.cos(0.9 * n * n / 50 + 0.1).view(3, 5, 7)


MASK = torch.arange(5) < torch.tensor([[5], [2], [1]])


def mean(objective: Objective) -> float:
    student, teacher = logits()
    tokens = torch.zeros(3, 5, dtype=torch.int64)
    return float(objective(student, teacher, tokens, MASK).sum() / MASK.sum())


@pytest.mark.parametrize(
    ("program", "value", "objective"),
    [
        # TRL's ends are whole KLs; its temperature is not squared.
        ("trl beta=0", 1.301202059, pointwise.ForwardKL()),
        ("trl beta=1", 1.706863880, pointwise.ReverseKL()),
        ("trl beta=0.5", 0.258310676, pointwise.JensenShannon(0.5)),
        ("trl beta=0.1 T=0.9", 0.114274114, pointwise.JensenShannon(0.1, 0.9, False)),
        ("distillkit kl", 1.301201940, pointwise.ForwardKL()),
        ("distillkit kl T=2", 1.885066271, pointwise.ForwardKL(2.0)),
        ("distillkit jsd", 0.258310705, pointwise.JensenShannon()),
        ("distillkit jsd T=2", 0.450358331, pointwise.JensenShannon(temperature=2.0)),
        ("distillkit tvd", 0.569054186, pointwise.TotalVariation()),
        ("distillkit tvd T=2", 4 * 0.377160907, pointwise.TotalVariation(2.0, True)),
        ("distillkit top 3, zero", 1.509122252, pointwise.TopK(3, "ignored")),
        ("distillkit top 3, symmetric", 1.182559729, pointwise.TopK(3, "bucket")),
        # Without labels torchdistill does not square its temperature; with them it does.
        ("torchdistill T=2", 0.471266627, pointwise.ForwardKL(2.0, False)),
        (
            "torchdistill T=2 alpha=0.3",
            (2.138534069 - 0.3 * 2.729958057) / 0.7,
            pointwise.ForwardKL(2.0),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_equal_where_the_definitions_agree(
    program: str, value: float, objective: Objective
) -> None:
    assert mean(objective) == pytest.approx(value, abs=1e-6)
