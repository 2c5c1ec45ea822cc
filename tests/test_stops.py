"""Signals: which exception, which exit code, and that nothing else comes out."""

import os
import signal
import subprocess
import sys
import time

import pytest

from kdlight import stops

DURING_IMPORTS = """
import os, signal, sys
from kdlight import stops
stops.leave_at_once()
os.kill(os.getpid(), int(sys.argv[1]))
print("went on")
"""


@pytest.mark.parametrize("sent", stops.SIGNALS)
def test_quietly_while_packages_are_imported(sent: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DURING_IMPORTS, str(int(sent))], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + sent, "", "kdlight: stopped.\n")


@pytest.mark.slow
@pytest.mark.parametrize("sent", stops.SIGNALS)
def test_the_command_while_packages_are_imported(sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "kdlight", "fit", "--config", "configs/quickstart.yaml"]
    # A shell that runs this in the background has told its children to ignore Ctrl-C.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    time.sleep(1.5)
    process.send_signal(sent)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + sent, b"kdlight: stopped.\n")


@pytest.mark.parametrize("sent", stops.SIGNALS)
def test_raised_in_a_block_and_back_as_before(sent: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in stops.SIGNALS]
    with pytest.raises(KeyboardInterrupt) as caught, stops.raised():
        try:
            os.kill(os.getpid(), sent)
        except KeyboardInterrupt:
            # As an import in C, and a library that wraps what it caught, turn it into another.
            raise ImportError("initialization failed") from None
    assert caught.value.args == (sent,)
    assert [signal.getsignal(each) for each in stops.SIGNALS] == before


def test_a_first_interrupt_is_a_warning_and_a_second_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    warned = []
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        stops.raised(),
        stops.between_batches("later"),
    ):
        # As Lightning does: its own handler, in front of the one that was there.
        before = signal.getsignal(signal.SIGTERM)
        assert callable(before)
        signal.signal(signal.SIGTERM, lambda *got: (warned.append(got[0]), before(*got)))
        os.kill(os.getpid(), signal.SIGINT)
        assert warned == [signal.SIGTERM]
        assert capfd.readouterr().err == "later\n"
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.args == (signal.SIGINT,)
