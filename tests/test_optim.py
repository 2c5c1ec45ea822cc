"""Learning-rate schedules against hand values."""

import pytest

from kdlight.errors import InputError
from kdlight.optim import Optimization


@pytest.mark.parametrize(
    ("settings", "step", "share"),
    [
        ({"decay": "constant"}, 999, 1.0),
        ({"decay": "constant", "warmup": 10}, 0, 0.1),
        ({"decay": "constant", "warmup": 10}, 9, 1.0),
        ({"decay": "linear"}, 250, 0.75),
        ({"decay": "linear", "final_lr": 0.2}, 500, 0.6),
        ({"decay": "cosine"}, 500, 0.5),
        ({"decay": "cosine", "warmup": 200}, 600, 0.5),
        ({"decay": "inverse_sqrt", "hold": 100}, 99, 1.0),
        ({"decay": "inverse_sqrt", "hold": 100}, 400, 0.5),
        ({"decay": "inverse_sqrt", "hold": 100, "warmup": 10}, 4, 0.5),
        ({"decay": "inverse_sqrt", "hold": 100, "warmup": 10}, 900, 1 / 3),
    ],
)
def test_the_learning_rate(settings, step, share) -> None:
    assert Optimization(lr=2.0, **settings).lr_at(step, 1000) == pytest.approx(2.0 * share)


def test_a_negative_hold_is_refused() -> None:
    with pytest.raises(InputError, match="hold: expected a number of at least 0, found -1"):
        Optimization(hold=-1)
