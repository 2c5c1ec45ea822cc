"""Stopping while the figures of the end are measured."""

import signal
import threading
from types import FrameType

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException


class StopAtOnce(L.Callback):
    """Lets SIGTERM end a run at once, and not after minutes, when its last batch is done.

    Lightning hears the signal between two batches. Behind the last one callbacks measure, and train
    recognisers, for as long as they like. Nothing is lost then: the last checkpoint is written, and
    files are whole or not there. It stands before all callbacks that measure.
    """

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        if trainer.received_sigterm:  # in the last batch, behind which nobody looks
            raise SIGTERMException
        if threading.current_thread() is not threading.main_thread():
            return  # which alone is told of signals
        before = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: FrameType | None) -> None:
            if callable(before):
                before(number, frame)  # Lightning's, which tells the other ranks
            raise SIGTERMException

        # Lightning puts back what was there before the run when it tears down.
        signal.signal(signal.SIGTERM, stop)
