"""What each of several processes runs: ``python -m tests.exactness FOLDER``."""

import os
import sys
from pathlib import Path

import torch
from lightning.pytorch.strategies import DDPStrategy

from tests.exactness.cases import CASES
from tests.exactness.harness import BATCH, fit, state


def fit_as_one_rank(folder: Path) -> None:
    """What each of several processes runs: every case at its share of the joint batch."""
    world_size = int(os.environ["WORLD_SIZE"])
    for name, case in CASES.items():
        module = case.make()
        strategy = DDPStrategy(
            process_group_backend="gloo",
            find_unused_parameters=module.trains_in_turns,  # as `fit` with configs/base/ddp.yaml
        )
        fit(
            module,
            case.data(BATCH // world_size),
            devices=world_size,
            strategy=strategy,
        )
        torch.save(state(module), folder / f"{name}_{os.environ['RANK']}.pt")


if __name__ == "__main__":
    fit_as_one_rank(Path(sys.argv[1]))
