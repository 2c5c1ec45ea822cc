"""What drafts save: ``python -m tests.benchmarks.drafting TARGET DRAFT...``, all checkpoints.

Every draft writes the same rows in turns with the target alone, as ``generate --draft`` does, so
that what else the machine does meets all of them; CPU-seconds, one thread.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from kdlight.speculative.drafters import Drafter, ModelDrafter, NoDrafter
from kdlight.speculative.writing import DraftedGenerator
from kdlight.teachers.tokens import language_teacher

ROWS = 10
"""Sentences of a turn."""


def main() -> None:
    """Print a row a draft."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("drafts", type=Path, nargs="+")
    parser.add_argument("--block", type=int, default=4, help="tokens a draft proposes")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    target = language_teacher(str(options.target)).eval()
    drafters: dict[str, Drafter] = {"none": NoDrafter()}
    for path in options.drafts:
        drafters[str(path)] = ModelDrafter(language_teacher(str(path)).eval(), options.block)
    writers = {name: DraftedGenerator(target, drafter) for name, drafter in drafters.items()}
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    start = torch.full((ROWS, target.length), target.vocabulary)
    for turn in range(options.turns + 1):
        for name, writer in writers.items():
            began = time.process_time()
            writer(start, seed=0, first=turn * ROWS)
            if turn:  # the first warms up
                seconds[name].append(time.process_time() - began)
    print("| draft | kept | tokens a call | CPU-ms a token | speed-up |")
    print("|---|---|---|---|---|")
    for name, writer in writers.items():
        said = writer.account
        each = statistics.median(seconds[name]) / (ROWS * target.length)
        pairs = zip(seconds["none"], seconds[name], strict=True)
        faster = statistics.median(alone / drafted for alone, drafted in pairs)
        kept, tokens = said.kept / max(1, said.tried), said.tokens / said.calls
        print(f"| {name} | {kept:.3f} | {tokens:.2f} | {1000 * each:.3f} | {faster:.2f} |")


if __name__ == "__main__":
    main()
