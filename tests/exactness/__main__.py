"""What each of several processes runs: ``python -m tests.exactness FOLDER CASE ...``."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from kdlight.training.reduction import PartwiseDDP
from tests.exactness.cases import CASES
from tests.exactness.harness import BATCH, TinyImages, fit, state
from tests.modules.speech.guided_cases import TinyTalk, guided


def fit_as_one_rank(folder: Path, names: list[str]) -> None:
    """What each of several processes runs: these cases at its share of the joint batch."""
    world_size = int(os.environ["WORLD_SIZE"])
    for name in names:
        case = CASES[name]
        module = case.make()
        strategy = PartwiseDDP(process_group_backend="gloo")
        fit(module, case.data(BATCH // world_size), devices=world_size, strategy=strategy)
        torch.save(state(module), folder / f"{name}_{os.environ['RANK']}.pt")
    # Over one cache of features, and under Lightning's own strategy.
    own = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    cached = fit(guided(cache=folder / "cache"), TinyTalk(2), devices=world_size, strategy=own)
    torch.save(state(cached), folder / f"cached_{os.environ['RANK']}.pt")
    for accumulate in (1, 4):
        with sent() as sizes:
            fit(
                CASES["dmd2"].make(accumulate=accumulate),
                TinyImages(BATCH // world_size),
                devices=world_size,
                strategy=PartwiseDDP(process_group_backend="gloo"),
            )
        (folder / f"sent_{accumulate}.json").write_text(json.dumps(sizes))


@contextlib.contextmanager
def sent() -> Iterator[list[int]]:
    """Bytes of every sum over ranks inside the block."""
    sizes: list[int] = []
    summed = dist.all_reduce

    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tensor.numel() * tensor.element_size())
        return summed(tensor, *args, **kwargs)

    dist.all_reduce = counted
    try:
        yield sizes
    finally:
        dist.all_reduce = summed


if __name__ == "__main__":
    fit_as_one_rank(Path(sys.argv[1]), sys.argv[2:])
