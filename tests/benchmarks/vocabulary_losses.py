"""Memory and time of a divergence over a large vocabulary, in chunks and all at once.

``python -m tests.benchmarks.vocabulary_losses``
"""

import subprocess
import sys
import time
from pathlib import Path

import torch

from kdlight.losses.language import objective
from kdlight.losses.language.pointwise import ForwardKL

VOCABULARY, TOKENS = 150_000, 512
FORMS = {"in chunks": objective.CHUNK_BYTES, "all at once": 2**62}


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(form: str) -> None:
    """Print MiB beside the logits and their gradient, and CPU-seconds, of one step."""
    torch.set_num_threads(1)
    objective.CHUNK_BYTES = FORMS[form]
    student = torch.randn(1, TOKENS, VOCABULARY).to(torch.bfloat16).requires_grad_()
    teacher = torch.randn(1, TOKENS, VOCABULARY).to(torch.bfloat16)
    tokens, mask = torch.zeros(1, TOKENS, dtype=torch.int64), torch.ones(1, TOKENS).bool()
    before, started = peak(), time.process_time()
    ForwardKL()(student, teacher, tokens, mask).mean().backward()
    size = 2 * TOKENS * VOCABULARY
    print(f"{(peak() - before - size) / 2**20:.0f} {time.process_time() - started:.1f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for name in FORMS:
            words = [sys.executable, "-m", "tests.benchmarks.vocabulary_losses", name]
            found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
            print(f"{name}: {found[0]} MiB beside logits and gradient, {found[1]} CPU-seconds")
