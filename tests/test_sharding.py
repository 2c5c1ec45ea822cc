"""FSDP2: two processes that hold half of everything train as one that holds it all."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdlight.storage.files import load_checkpoint
from tests.exactness.harness import SaveAt, fit
from tests.exactness.sharded import ACCUMULATE, SHARDED, STOP
from tests.ranks import run_two_ranks

# One worker makes the runs for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sharding")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one process, and of two that continue them and train by themselves."""
    folder = tmp_path_factory.mktemp("runs")
    for name, case in SHARDED.items():
        saving = SaveAt(folder / "one" / name, (STOP, case.iterations))
        fit(case.make(accumulate=ACCUMULATE), case.data(), [saving])
    run_two_ranks("tests.exactness.sharded", str(folder), timeout=900)
    return folder


def weights(path: Path) -> dict[str, Tensor]:
    state = load_checkpoint(path)["state_dict"]
    return {key: value for key, value in state.items() if torch.is_tensor(value)}


@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("way", ["straight", "of_one", "under_ddp", "in_one"])
def test_sharded_equals_one_process_also_after_a_change_of_strategy(
    way: str, name: str, runs: Path
) -> None:
    case = SHARDED[name]
    last, own = f"{case.iterations}.ckpt", runs / "sharded" / name
    if way == "in_one":
        saving = SaveAt(own / way, (case.iterations,))
        fit(case.make(accumulate=ACCUMULATE), case.data(), [saving], own / f"{STOP}.ckpt")
    found = weights(own / last if way == "straight" else own / way / last)
    expected = weights(runs / "one" / name / last)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4, msg=key)


def test_every_rank_holds_half(runs: Path) -> None:
    for name in set(SHARDED) - {"dmd2_lora"}:
        for rank in (0, 1):
            found = json.loads((runs / "sharded" / name / f"held_{rank}.json").read_text())
            # A row more where their number is odd.
            assert 0.4 * found["whole"] < found["held"] < 0.55 * found["whole"], name
