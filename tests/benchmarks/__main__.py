"""Run the benchmarks and print one table: ``python -m tests.benchmarks``, or ``make bench``.

Minutes on an idle machine. Ratios are medians over turns taken in one process; the CPU column
holds still where other work on the machine makes the wall clock jump.
"""

import argparse
import os
import platform
import statistics

import torch

from kdlight.commands.train import quiet
from tests.benchmarks.beside import shares
from tests.benchmarks.codec import codec
from tests.benchmarks.interleave import HEADER
from tests.benchmarks.sampling import sampling
from tests.benchmarks.training import (
    CHUNK,
    consistency,
    diffusion_training,
    progressive_distillation,
    score_distillation,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--turns", type=int, default=40, help="Turns of each in a comparison.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quiet()
    print(
        f"{os.cpu_count()} cores, {arguments.threads} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}; {arguments.turns} turns\n{HEADER}",
        flush=True,
    )
    teacher = diffusion_training(arguments.turns)
    for pairs in teacher:
        print(pairs.row(), flush=True)
    for pairs in progressive_distillation(arguments.turns):
        print(pairs.row(), flush=True)
    for pairs in (*consistency(arguments.turns), *score_distillation(arguments.turns)):
        print(pairs.row(), flush=True)
    for pairs in sampling(max(3, arguments.turns // 4)):
        print(pairs.row(), flush=True)
    for pairs in codec(max(3, arguments.turns // 4)):
        print(pairs.row(), flush=True)
    step = statistics.median(turn.wall for turn in teacher[0].ours) / CHUNK
    print("\n".join(shares(step)))


if __name__ == "__main__":
    main()
