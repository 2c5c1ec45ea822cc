"""Does a T2S model say its text? Phones heard in the codes that it writes of new sentences."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.core.noise import mix
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeFloat, PositiveInt
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.metrics.speech.spoken_codes import heard_phones, phone_errors, repeated
from kdlight.metrics.speech.synthesis import PhoneProbe
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.training.data import data_of


class SemanticReport(Ranged, RowsReport):
    """Rows of ``summary.json`` when training ends (and for ``test``).

    ``student``, the ``teacher`` if there is one, and ``recordings``, the codes of the held-out
    speakers themselves. A probe that was fitted to the codes of training recordings says which
    phone each frame is:

    - ``phone_error``: edits between the phones heard and those of the text, over the latter; of
      recordings it is the floor; left out where the data do not know when which phone is said;
    - ``length_ratio``: frames written over those recorded;
    - ``repeats``: share of codes that repeat the one before; a loop shows here;
    - ``code_loss``: nats a code of the recordings, told all before it.

    Args:
        sentences: Most held-out sentences.
        temperature: Of the draws.
    """

    def __init__(self, sentences: PositiveInt = 64, temperature: NonNegativeFloat = 0.7) -> None:
        self.sentences, self.temperature = sentences, temperature

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if not isinstance(getattr(pl_module, "student", None), SemanticWriter):
            raise InputError(
                "SemanticReport: expected a method that trains a writer of codes, found "
                f"{type(pl_module).__name__}."
            )
        held = getattr(data, "heldout_rows", {})
        if not any(held.values()):
            raise InputError(
                "SemanticReport: expected held-out sentences as codes, found "
                f"{type(data).__name__} without."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        data = data_of(trainer)
        held = in_turns(data.heldout_rows)[: self.sentences]
        probe = self.probe(data, module.student)
        models: dict[str, SemanticWriter | None] = {"student": module.student}
        if data.teacher is not None:
            models["teacher"] = data.writer()
        models["recordings"] = None
        rows = []
        for name, model in models.items():
            row: Row = {"model": name}
            if model is None:
                said = [each["codes"][0] for each in held]
            else:
                training, model = model.training, model.eval()
                said = self.written(model, held)
                row["code_loss"] = code_loss(model, held)
                model.train(training)
            rows.append(row | self.figures(data, probe, held, said))
        return rows

    def probe(self, data: Any, model: SemanticWriter) -> PhoneProbe | None:
        """Fitted to the first level of training recordings; None without phones in time."""
        learnt = [each for said in data.training_recordings().values() for each in said[:8]]
        if not all("phones" in each for each in learnt):
            return None
        probe = PhoneProbe(len(model.phones))
        latents = [data.codec.quantizer.decode(each["codes"][None, :1])[0] for each in learnt]
        probe.learn(latents, [each["phones"] for each in learnt])
        return probe

    def written(self, model: SemanticWriter, held: list[dict[str, Any]]) -> list[Tensor]:
        """Codes (F,) that a model writes of each text."""
        texts = torch.nn.utils.rnn.pad_sequence([each["text"] for each in held], batch_first=True)
        device = model.codec.device
        draws = RowDraws(torch.arange(len(held), device=device), mix(0))
        codes, frames = model.write(texts.to(device), draws, self.temperature)
        return [row[:count].cpu() for row, count in zip(codes, frames.tolist(), strict=True)]

    def figures(
        self, data: Any, probe: PhoneProbe | None, held: list[dict[str, Any]], said: list[Tensor]
    ) -> Row:
        """Of codes (F,) of each held-out sentence."""
        frames = sum(len(codes) for codes in said)
        row: Row = {
            "length_ratio": frames / sum(int(each["frames"]) for each in held),
            "repeats": sum(repeated(codes) for codes in said) / len(held),
        }
        if probe is None:
            return row
        wrong = phones = 0
        for each, codes in zip(held, said, strict=True):
            latents = data.codec.quantizer.decode(codes[None, None])[0]
            truth = [int(number) - 1 for number in each["text"] if number > 1]
            errors, count = phone_errors(heard_phones(probe.heard(latents)), truth)
            wrong, phones = wrong + errors, phones + count
        return {"phone_error": wrong / phones} | row


def in_turns(spoken: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Sentences of speakers in turns."""
    longest = max((len(said) for said in spoken.values()), default=0)
    return [said[turn] for turn in range(longest) for said in spoken.values() if turn < len(said)]


def code_loss(model: SemanticWriter, held: list[dict[str, Any]]) -> float:
    """Nats a code of recordings, the end counted as one."""
    total = count = 0.0
    device = model.codec.device
    for each in held:
        codes = each["codes"][None, 0].to(device)
        frames = each["frames"][None].to(device)
        log_probs, scored = model(each["text"][None].to(device), codes, frames)
        total, count = total - float(log_probs[scored].sum()), count + int(scored.sum())
    return total / count
