"""How near are filled levels to the codec's own? Held-out speakers, told their first level."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.rows import Row, RowsReport
from kdlight.callbacks.speech.players import Said, Version, keep_players
from kdlight.callbacks.speech.semantic import in_turns
from kdlight.core.noise import mix
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.metrics.speech.spectral import log_mel_l1
from kdlight.metrics.speech.spoken_codes import bigram_distance
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.training.data import data_of

Logits = Callable[[Tensor], Tensor]


class AcousticReport(Ranged, RowsReport):
    """Rows of ``summary.json`` when training ends (and for ``test``), and sentences to listen to.

    The student in ``steps`` and in one step, and as ``logits once``, the control: its second level
    in as many steps, all of them told what was known before the first, as Pheme's released program
    does it. A voice is described by ``enrolment`` sentences; the others are filled from their first
    level.

    - ``mel_to_codec``: mean absolute difference, in nats, of log-mel spectrograms to what the
      codec makes of all true codes;
    - ``level_bigram_tv``: pairs of neighbours of the second level, their distance from the true
      ones, 0 to 1;
    - ``codes_right``: share of the filled codes that are the true ones.

    Args:
        sentences: Most held-out sentences.
        enrolment: Sentences that describe a voice.
        steps: Calls for the second level.
        listen: Sentences whose audio is kept.
    """

    def __init__(
        self,
        sentences: PositiveInt = 48,
        enrolment: PositiveInt = 4,
        steps: PositiveInt = 16,
        listen: NonNegativeInt = 3,
    ) -> None:
        self.sentences, self.enrolment = sentences, enrolment
        self.steps, self.listen = steps, listen

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        if not isinstance(getattr(pl_module, "student", None), AcousticFiller):
            raise InputError(
                "AcousticReport: expected a method that trains a filler of codes, found "
                f"{type(pl_module).__name__}."
            )
        held = getattr(data, "heldout_rows", {})
        if not any(len(said) > self.enrolment for said in held.values()):
            raise InputError(
                f"AcousticReport: expected a held-out speaker with more than {self.enrolment} "
                f"sentences as codes, found none in {type(data).__name__}."
            )

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        data, model = data_of(trainer), module.student
        voices = {
            name: data.describe(said[: self.enrolment]) for name, said in data.heldout_rows.items()
        }
        rest = {name: said[self.enrolment :] for name, said in data.heldout_rows.items()}
        held = in_turns(rest)[: self.sentences]
        voice = torch.stack([voices[each["speaker"]] for each in held])
        true = [data.codec.decode(each["codes"][None])[0] for each in held]
        walks: list[tuple[str, int, Callable[[Logits], Logits] | None]] = [
            ("student", self.steps, None),
            ("student", 1, None),
            ("logits once", self.steps, once),
        ]
        training = model.training
        model.eval()
        rows, spoken = [], []
        for name, steps, heard in walks:
            filled = fill(model, held, voice, steps, heard)
            audio = [data.codec.decode(codes[None])[0] for codes in filled]
            rows.append({"model": name, "steps": steps} | self.figures(data, held, filled))
            rate = data.codec.sample_rate
            differences = [log_mel_l1(a[0], b[0], rate) for a, b in zip(true, audio, strict=True)]
            rows[-1]["mel_to_codec"] = sum(differences) / len(differences)
            spoken.append(audio)
        model.train(training)
        if folder is not None:
            kept = []
            for index, each in enumerate(held[: self.listen]):
                versions = [Version("codec", true[index])]
                versions += [
                    Version(f"{name}, {steps} steps", audio[index])
                    for (name, steps, _), audio in zip(walks, spoken, strict=True)
                ]
                kept.append((Said(each["path"], each["speaker"], each["transcript"]), versions))
            keep_players(folder / "samples", kept, data.codec.sample_rate)
        return rows

    def figures(self, data: Any, held: list[dict[str, Any]], filled: list[Tensor]) -> Row:
        """Of codes (levels, F) of each held-out sentence."""
        second = [codes[1] for codes in filled], [each["codes"][1] for each in held]
        right = [
            (codes[1:] == each["codes"][1:]).flatten()
            for codes, each in zip(filled, held, strict=True)
        ]
        return {
            "level_bigram_tv": bigram_distance(*second, data.codec.codebook_size),
            "codes_right": float(torch.cat(right).double().mean()),
        }


def fill(
    model: AcousticFiller,
    held: list[dict[str, Any]],
    voice: Tensor,
    steps: int,
    heard: Callable[[Logits], Logits] | None,
) -> list[Tensor]:
    """Codes (levels, F) of each sentence, filled from its first level."""
    frames = [int(each["frames"]) for each in held]
    codes = torch.zeros(len(held), model.levels, max(frames), dtype=torch.int64)
    for row, each in enumerate(held):
        codes[row, 0, : frames[row]] = each["codes"][0]
        codes[row, 1:, : frames[row]] = model.unknown
    mask = torch.arange(max(frames)) < torch.tensor(frames)[:, None]
    device = model.table.device
    draws = RowDraws(torch.arange(len(held), device=device), mix(0))
    found = model.fill(
        codes.to(device), voice.to(device), mask.to(device), draws, steps, heard=heard
    ).cpu()
    return [row[:, :count] for row, count in zip(found, frames, strict=True)]


def once(logits_of: Logits) -> Logits:
    """The control: what the first call said, whatever has been revealed since."""
    said: list[Tensor] = []

    def asked(codes: Tensor) -> Tensor:
        if not said:
            said.append(logits_of(codes))
        return said[0]

    return asked
