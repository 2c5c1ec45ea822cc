"""Measures writers of captions when training ends: how often they name what is not there."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from kdlight.callbacks.images.probing import ProbingReport
from kdlight.callbacks.rows import Row
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.next_tokens import next_token_nll
from kdlight.networks.images.captioner import CaptionWriter
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of


class CaptionReport(ProbingReport):
    """One row a model, the teacher first, printed and written to ``summary.json``.

    Over the held-out images: ``hallucination``, the probability that a sampled caption names
    another class than the image's; ``caption_nll``, nats a word of the right captions;
    ``teacher_kl``, nats a word from the teacher.

    Raises:
        InputError: Before training starts, data without classes.
    """

    kind = DistillationModule
    wanted = "ends in writers of captions"

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        assert isinstance(module, DistillationModule)
        found = dict(module.models().values())
        teacher = getattr(module, "teacher", None)
        known = ({"teacher": teacher} if isinstance(teacher, CaptionWriter) else {}) | found
        return [
            self._row(trainer, name, model, teacher if name != "teacher" else None)
            for name, model in known.items()
            if isinstance(model, CaptionWriter)
        ]

    @torch.no_grad()
    def _row(
        self, trainer: L.Trainer, name: str, model: CaptionWriter, teacher: CaptionWriter | None
    ) -> Row:
        data = data_of(trainer)
        device = next(model.parameters()).device
        sums, count = torch.zeros(3, dtype=torch.float64), 0
        mode = model.training
        model.eval()
        for batch in data.one_pass("heldout"):
            image, tokens = batch["image"].to(device), batch["tokens"].to(device)
            logits = model(image, tokens).logits
            each = next_token_nll(logits, tokens).double()
            wrong = 1 - (-each[:, data.class_place]).exp()
            apart = torch.zeros_like(wrong)
            if teacher is not None:
                said = teacher(image, tokens).logits.log_softmax(dim=2)
                apart = forward_kl(said, logits.log_softmax(dim=2)).mean(dim=1).double()
            found = (wrong, each.mean(dim=1), apart)
            sums += torch.stack([value.sum() for value in found]).cpu()
            count += len(image)
        model.train(mode)
        hallucination, nll, kl = (sums / count).tolist()
        row: Row = {"model": name, "hallucination": hallucination, "caption_nll": nll}
        row |= {} if teacher is None else {"teacher_kl": kl}
        return row | {"parameters": sum(each.numel() for each in model.parameters())}
