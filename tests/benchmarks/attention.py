"""What cheap attention saves: ``python -m tests.benchmarks.attention --lengths 64 256 1024 4096``.

The students of ``python -m tests.benchmarks.seeds oracle_attention``, drawn anew, read one text of
each length, in turns; CPU-milliseconds without gradients, one thread.
"""

import argparse
import time
from typing import Any

import torch

from kdlight.networks.text.classifier import TokenClassifier
from tests.benchmarks.language_studies import ATTENTIONS, STUDENT_ENCODER


def student(name: str, length: int) -> TokenClassifier:
    """A student with that attention, for texts of that length."""
    settings: dict[str, Any] = {**ATTENTIONS[name], **STUDENT_ENCODER}
    settings["max_position_embeddings"] = length + 32
    if "segment_means_seq_len" in settings:
        settings["segment_means_seq_len"] = length
    return TokenClassifier(settings, 8).eval()


@torch.inference_mode()
def main() -> None:
    """Print a row an attention."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    best: dict[tuple[str, int], float] = {}
    for length in options.lengths:
        tokens = torch.randint(16, (1, length))
        mask = torch.ones_like(tokens, dtype=torch.bool)
        networks = {name: student(name, length) for name in ATTENTIONS}
        for turn in range(options.rounds + 1):
            for name, network in networks.items():
                begun = time.process_time()
                network(tokens, mask)
                spent = 1000 * (time.process_time() - begun)
                if turn:  # the first call of each warms up
                    best[name, length] = min(spent, best.get((name, length), spent))
    print(f"| attention | {' | '.join(f'{length} tokens' for length in options.lengths)} |")
    print(f"|---|{'---|' * len(options.lengths)}")
    for name in ATTENTIONS:
        cells = [f"{best[name, length]:.1f}" for length in options.lengths]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
