"""What does not fit into memory is refused, with what it takes."""

import subprocess
import sys

import pytest
import torch

from kdlight.core import memory
from kdlight.core.memory import GIB, available, check_fits, rows_within, shortage
from kdlight.errors import InputError


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 2 * GIB)
    check_fits("batch_size", 2**20, (512,))
    with pytest.raises(InputError, match=r"^batch_size: .* 2.0 GiB .* 1048577, .* take 2.0 GiB"):
        check_fits("batch_size", 2**20 + 1, (512,))
    with pytest.raises(InputError, match=r"take 4.0 GiB"):
        check_fits("count", 2**20, (512,), copies=2)
    monkeypatch.setattr(memory, "available", lambda: None)
    check_fits("batch_size", 10**15, (512,))


def test_rows_of_a_large_vocabulary_are_fewer() -> None:
    assert rows_within(250, 16 * 16) == 250
    assert rows_within(250, 128 * 49_152) == 10
    assert rows_within(250, 2**30) == 1
    assert rows_within(0, 16) == 1


def test_an_allocation_that_failed_is_known() -> None:
    for size in (2**50, 2**62):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(size)
        said = shortage(caught.value)
        assert said is not None
        assert said.startswith("memory: ")
    assert "4194304.0 GiB were asked for" in str(shortage(RuntimeError(
        f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {2**52} bytes."
    )))  # fmt: skip
    assert shortage(MemoryError()) is not None
    assert shortage(ValueError("lr: expected a number")) is None


@pytest.mark.skipif(available() is None, reason="no /proc/meminfo")
def test_a_process_stays_within_free_memory() -> None:
    code = (
        "import torch; from kdlight.core import memory; memory.available = lambda: 2**28; "
        "memory.stay_within(); torch.ones(2**20); torch.ones(2**28)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "can't allocate memory" in done.stderr
