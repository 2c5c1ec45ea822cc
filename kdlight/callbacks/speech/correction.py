"""Does a corrector help? Word errors of lists it never saw, under noise it never saw."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.errors import InputError
from kdlight.metrics.speech.nbest import explained, list_errors
from kdlight.training.data import data_of


class CorrectionReport(RowsReport):
    """Word errors of held-out lists, into ``summary.json``, when training ends (and for ``test``).

    The row ``student`` has ``wer`` of what the corrector says; the row ``first hypothesis`` that of
    the recogniser, with ``oracle_wer`` of the best hypothesis of each list and
    ``compositional_wer`` of the best words of each. ``noise_probe`` is how much of the level of
    noise a ridge regression reads from T(E), R^2.

    Raises:
        InputError: Before training starts: the method trains no corrector, or the data hold out no
            lists.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if "corrector" not in getattr(pl_module, "_modules", {}):
            raise InputError(
                "CorrectionReport: expected a method that trains a corrector, found "
                f"{type(pl_module).__name__}."
            )
        if "hypotheses" not in getattr(data, "heldout", {}):
            raise InputError(
                f"CorrectionReport: expected held-out lists, found {type(data).__name__} without."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        held: dict[str, torch.Tensor] = data_of(trainer).heldout
        lists, truth = held["hypotheses"], held["truth"]
        corrector = module.corrector.eval()
        said, noises = [], []
        for some in torch.split(lists.to(module.device), 256):
            noise = corrector.noise(some)
            said.append(corrector(some, noise if module.use_noise else None).argmax(dim=-1).cpu())
            noises.append(noise.mean(dim=1).cpu())
        corrector.train()
        wrong = float((torch.cat(said) != truth).double().mean())
        student: Row = {"model": "student", "wer": wrong}
        student["noise_probe"] = explained(torch.cat(noises), held["level"])
        return [student, {"model": "first hypothesis"} | list_errors(lists, truth)]
