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

pytestmark = pytest.mark.slow
WAYS = ("straight", "of_one", "under_ddp", "in_one")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one process, and of two that continue them and train by themselves."""
    folder = tmp_path_factory.mktemp("runs")
    for name, case in SHARDED.items():
        saving = SaveAt(folder / "one" / name, (STOP, case.iterations))
        fit(case.make(accumulate=ACCUMULATE), case.data(), [saving])
    run_two_ranks("tests.exactness.sharded", str(folder), timeout=900)
    for name, case in SHARDED.items():
        own = folder / "sharded" / name
        saving = SaveAt(own / "in_one", (case.iterations,))
        fit(case.make(accumulate=ACCUMULATE), case.data(), [saving], own / f"{STOP}.ckpt")
    return folder


def weights(path: Path) -> dict[str, Tensor]:
    state = load_checkpoint(path)["state_dict"]
    return {key: value for key, value in state.items() if torch.is_tensor(value)}


def held(folder: Path) -> bool:
    """Whether each of the two ranks held half of what there is, a row more where it is odd."""
    found = [json.loads((folder / f"held_{rank}.json").read_text()) for rank in (0, 1)]
    return all(0.4 * each["whole"] < each["held"] < 0.55 * each["whole"] for each in found)


# One test: the runs are of two minutes, and each worker that has a test of them makes them.
def test_sharded_equals_one_process_also_after_a_change_of_strategy(runs: Path) -> None:
    for name, case in SHARDED.items():
        last, own = f"{case.iterations}.ckpt", runs / "sharded" / name
        expected = weights(runs / "one" / name / last)
        for way in WAYS:
            found = weights(own / last if way == "straight" else own / way / last)
            assert found.keys() == expected.keys(), (name, way)
            for key, value in expected.items():
                torch.testing.assert_close(
                    found[key], value, rtol=1e-4, atol=1e-4, msg=f"{name} {way}: {key}"
                )
        # Adapters are small beside what every rank holds whole.
        assert name == "dmd2_lora" or held(own), name
