"""Every kind of stop at every moment, and what is left: ``python -m tests.benchmarks.stops``.

Prints a Markdown table. A run of seconds is stopped by a signal that it gets at an exact point of
the program, or by its disk, which fills up there; then it is continued with ``--ckpt_path last``
(begun again where nothing was written) and compared with the run that nothing stopped.

The full disk is a tmpfs of some MB, which only root can mount; elsewhere its rows say so.
"""

import argparse
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from kdlight.cli import main as kdlight
from kdlight.commands.shared.folders import checkpoints, newest_checkpoint
from kdlight.storage.files import load_checkpoint
from kdlight.training.base import DistillationModule
from tests.commands.tiny import TINY, weights

STOPS = {
    "SIGTERM": signal.SIGTERM,
    "SIGINT": signal.SIGINT,
    "kill -9": signal.SIGKILL,
    "full disk": None,
}
MOMENTS = ("start", "mid-epoch", "validating", "writing")
"""While packages are imported (or the folder is made); in iteration 9 of epochs of 7; in the
validation behind iteration 14; in the second write of a checkpoint, of which half is there."""
DISK = "6m"
WORDS = [
    *("fit", "--config", str(TINY), "--trainer.callbacks", "[]"),
    *("--trainer.enable_progress_bar", "false"),
]
"""20 iterations in epochs of 7, a checkpoint every 5."""
IMPORTING = """
import os, runpy, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "torch":
            os.kill(os.getpid(), NUMBER)
sys.meta_path.insert(0, Finder())
runpy.run_module("kdlight", run_name="__main__", alter_sys=True)
"""


def once(module: Any, name: str, when: Callable[..., bool], act: Callable[..., None]) -> None:
    """Let a function do something else first, the first time that a condition on its call holds."""
    original = getattr(module, name)
    done = False

    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        if not done and when(*args, **kwargs):
            done = True
            act(*args)
        return original(*args, **kwargs)

    setattr(module, name, replaced)


def arm(moment: str, act: Callable[[], None]) -> None:
    """Let this process do ``act`` at a moment of the run that it is about to begin."""

    def half_then_act(checkpoint: Any, path: Path) -> None:
        whole = BytesIO()
        save(checkpoint, whole)
        path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        act()

    save, writes = torch.save, iter(range(100))
    if moment == "start":
        act()
    elif moment == "mid-epoch":
        once(
            DistillationModule, "training_step",
            lambda module, *_: module.iteration == 8, lambda *_: act(),
        )  # fmt: skip
    elif moment == "validating":
        once(
            DistillationModule, "validation_step",
            lambda module, *_: module.iteration == 14, lambda *_: act(),
        )  # fmt: skip
    else:
        once(torch, "save", lambda _, to: isinstance(to, Path) and next(writes) == 1, half_then_act)


def in_a_child(words: list[str], log: Path, prepare: Callable[[], None] | None = None) -> int:
    """Exit code, as a shell gives it, of the command line in a child of this process.

    A child that is forked has its packages already. It leaves without Python's own end, which
    would wait for threads that only its parent has.
    """
    child = os.fork()
    if child == 0:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1), os.dup2(target, 2)
        code = 1
        try:
            if prepare is not None:
                prepare()
            code = kdlight(words)
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def stopped(words: list[str], log: Path, number: int, moment: str) -> int:
    """Exit code of a run that gets a signal."""
    if moment != "start":
        return in_a_child(words, log, lambda: arm(moment, lambda: os.kill(os.getpid(), number)))
    # A process of its own, which imports its packages.
    program = IMPORTING.replace("NUMBER", str(int(number)))
    with log.open("wb") as stream:
        done = subprocess.run([sys.executable, "-c", program, *words], stdout=stream, stderr=stream)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def filled(words: list[str], log: Path, runs: Path, moment: str) -> int:
    """Exit code of a run whose disk fills up; behind it there is room again."""
    filler = runs.parent / "filler"

    def fill() -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))

    code = in_a_child(words, log, lambda: arm(moment, fill))
    filler.unlink()
    return code


@contextmanager
def place(stop: str) -> Iterator[Path | None]:
    """A folder for runs; on a small disk of its own for the stop that needs one, None without."""
    with tempfile.TemporaryDirectory() as name:
        if stop != "full disk":
            yield Path(name) / "runs"
            return
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", name]
        if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
            yield None
            return
        try:
            yield Path(name) / "runs"
        finally:
            subprocess.run(["umount", name], check=True)


def left_in(runs: Path) -> str:
    """What a stop left: the iteration of the last whole checkpoint, and halves of files."""
    if not runs.exists():
        return "nothing"
    halves = len(list(runs.rglob(".*.kdlight-*")))
    found = [f"{halves} half file"] if halves else []
    if any(checkpoints(runs / "tiny")):
        state = load_checkpoint(newest_checkpoint(runs / "tiny", "here"))["state_dict"]
        found.insert(0, f"checkpoint of iteration {state['_extra_state']['iteration']}")
    else:
        found.insert(0, "a folder without a checkpoint")
    return ", ".join(found)


def row(stop: str, moment: str, expected: Path) -> str:
    """One row of the table."""
    with place(stop) as runs, tempfile.TemporaryDirectory() as logs:
        if runs is None:
            return f"| {stop} | {moment} | not run: only root can mount a small disk | | | |"
        words, log = [*WORDS, "--runs_dir", str(runs)], Path(logs) / "log"
        number = STOPS[stop]
        if number is None:
            code = filled(words, log, runs, moment)
        else:
            code = stopped(words, log, number, moment)
        said = " / ".join(log.read_text().replace(str(runs), "runs").split("\n")[:-1])
        left = left_in(runs)
        last = ["--ckpt_path", "last"] if any(checkpoints(runs / "tiny")) else []
        again = in_a_child([*words, *last], log)
        if again:
            return f"| {stop} | {moment} | {code} | {said} | {left} | FAILED: {log.read_text()} |"
        end = weights(newest_checkpoint(runs / "tiny", "here"))
        whole = weights(expected)
        equal = end.keys() == whole.keys() and all(torch.equal(end[k], whole[k]) for k in whole)
        halves = len(list(runs.rglob(".*.kdlight-*")))
        then = f"{'bit-equal' if equal else 'DIFFERENT'}{f', {halves} HALF FILES' * bool(halves)}"
        return f"| {stop} | {moment} | {code} | {said} | {left} | {then} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stops", description=__doc__)
    parser.add_argument("--stops", nargs="+", choices=STOPS, default=list(STOPS))
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=list(MOMENTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        # In this process, so that the children have all packages.
        unbroken, said = Path(name) / "runs", sys.stdout
        sys.stdout = sys.stderr
        assert kdlight([*WORDS, "--runs_dir", str(unbroken)]) == 0
        sys.stdout = said
        expected = newest_checkpoint(unbroken / "tiny", "here")
        print("| stop | when | exit code | says | left | continued, it ends |\n|" + "---|" * 6)
        for stop in options.stops:
            for moment in options.moments:
                print(row(stop, moment, expected), flush=True)


if __name__ == "__main__":
    main()
