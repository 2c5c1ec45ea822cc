"""A module of the tests in two processes that train together."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def run_two_ranks(module: str, *words: str, timeout: float = 300) -> None:
    """``python -m MODULE WORDS`` twice, as the two ranks of one launch of ``torchrun``.

    Without the launcher itself, which costs as much as a small rank.

    Raises:
        CalledProcessError: One of them failed; the other is ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = os.environ | {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"},
        **{"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "tests"},
        **{"OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "OFF"},
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=Path(__file__).parents[1],
            env=known | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        for each in ranks:
            if code := each.wait(timeout):
                raise subprocess.CalledProcessError(code, each.args)
    finally:
        for each in ranks:
            each.kill()
            each.wait()
