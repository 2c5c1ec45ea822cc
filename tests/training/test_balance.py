import math
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from kdlight.errors import InputError
from kdlight.training.balance import LossBalance
from kdlight.training.base import DistillationModule

BATCH = 8


def terms_of(x: Tensor) -> dict[str, Tensor]:
    return {"square": 0.5 * x.square().mean(), "cubic": (0.01 * x**3).sum(1).mean()}


def samples() -> Tensor:
    return torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(0))


def test_norms_in_closed_form():
    weights = torch.tensor([[3.0], [2.0]], requires_grad=True)
    x = torch.tensor([[3.0], [4.0]]) * weights
    terms = {
        "square": 7 * x.square().mean(),  # 7 x
        "linear": x.mean(),  # 1/2 each
        "constant": torch.tensor(5.0),
        "elsewhere": weights.square().sum(),
    }
    found = LossBalance().gradients(x, terms)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {"square": 7 * math.sqrt(81 + 64), "linear": math.sqrt(0.5), "constant": 0, "elsewhere": 0}
    )
    assert all(value.dtype == torch.float64 and value.shape == () for value in found.values())
    assert weights.grad is None, "a measurement leaves nothing behind"
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert weights.grad is not None, "and the graph is still there"


def test_norms_do_not_overflow_in_half_precision():
    x = torch.ones(10_000, dtype=torch.float16, requires_grad=True)
    found = LossBalance().gradients(x, {"sum": (100 * x).float().sum()})
    assert found["sum"].item() == pytest.approx(1e4)


def share_of(rank: int, folder: str) -> None:
    """The norms that one of two gloo ranks finds on its half of the batch."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    x = samples()[rank::2].requires_grad_()
    torch.save(LossBalance().gradients(x, terms_of(x)), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_find_the_norms_of_the_joint_batch(tmp_path: Path):
    threads = torch.get_num_threads()
    other = mp.get_context("spawn").Process(target=share_of, args=(1, str(tmp_path)))
    other.start()
    try:
        share_of(0, str(tmp_path))
    finally:
        torch.set_num_threads(threads)
        other.join()
    assert other.exitcode == 0
    x = samples().requires_grad_()
    expected = {key: value.item() for key, value in LossBalance().gradients(x, terms_of(x)).items()}
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert {key: value.item() for key, value in found.items()} == pytest.approx(expected)


def test_due_at_once_and_then_once_in_so_many_updates():
    balance = LossBalance(every=50)
    assert [update for update in range(160) if balance.due(update)] == [0, 50, 100, 150]


@pytest.mark.parametrize(
    ("norms", "ratio", "sentence"),
    [
        ({"a": 2.0, "b": 0.5}, 4.0, None),
        ({"a": 100.0, "b": 1.0}, 100.0, None),
        ({"a": 3.0}, 1.0, None),
        ({"a": 5.0, "b": 0.01, "c": 1.0}, 500.0, "gradient of a .* is 500 times that of b, more"),
        ({"a": 5.0, "b": 0.0}, math.inf, "b had a gradient of zero"),
        ({"a": 0.0, "b": 0.0}, math.inf, "a and b had a gradient of zero"),
        ({"a": math.nan, "b": 0.0}, math.nan, "a had a gradient that is not finite"),
        ({"a": math.inf, "b": 1.0}, math.nan, "a had a gradient that is not finite"),
    ],
)
def test_ratio_and_warning(norms: dict[str, float], ratio: float, sentence: str | None):
    balance = LossBalance(threshold=100)
    assert balance.ratio(norms) == pytest.approx(ratio, nan_ok=True)
    if sentence is None:
        assert balance.warning(norms) is None
    else:
        text = balance.warning({name: torch.tensor(norm) for name, norm in norms.items()})
        assert text is not None
        assert re.search(sentence, text)
        assert text.count(". ") == 0


def test_what_is_logged():
    logged = LossBalance(threshold=50).logged({"kl": 2.0, "gan": 0.5})
    assert logged == {
        "balance/kl": 2.0,
        "balance/gan": 0.5,
        "balance/ratio": 4.0,
        "balance/threshold": 50,
    }
    with pytest.raises(InputError, match="terms: expected other names than 'ratio'"):
        LossBalance().logged({"ratio": 1.0})


class Reporting(DistillationModule):
    """Keeps what it would log."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.iteration, self.non_finite_total, self.seen = 0, 0, dict[str, Any]()
        self._trainer = SimpleNamespace(log_every_n_steps=1, world_size=1)

    @property
    def trainer(self) -> Any:
        return self._trainer

    def log_dict(self, dictionary: Any, **settings: Any) -> None:
        self.seen = dict(dictionary)


def test_a_key_with_a_slash_is_logged_as_it_is():
    module = Reporting()
    module.report({"loss": 1.0, "balance/kl": 2.0})
    assert set(module.seen) == {"train/loss", "balance/kl", "iteration", "train/non_finite"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every: expected a number of updates of at least 1, found 0"),
        ({"threshold": 1.0}, "threshold: expected a finite ratio above 1, found 1"),
        ({"threshold": math.nan}, "threshold: expected a finite ratio above 1, found nan"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        LossBalance(**settings)
