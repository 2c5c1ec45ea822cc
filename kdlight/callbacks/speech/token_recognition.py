"""Which words do the tokens hold? Errors of a recogniser trained on the codes of a level."""

import math
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.callbacks.speech.codec import codecs_of, heldout, print_rows, resting, speech_run
from kdlight.callbacks.speech.token_probe import Row, merged
from kdlight.callbacks.speech.utterances import HeldOut
from kdlight.codec.codec import Codec
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.metrics.speech.packages import check_installed
from kdlight.metrics.tokens.recogniser import (
    CodedSpeech,
    recognition_errors,
    train_recogniser,
)
from kdlight.storage.files import read_json, write_json
from kdlight.training.base import DistillationModule
from kdlight.training.data import speech_of

FRAME_RATE = 50
"""Codes a second that the recogniser, which halves them, needs for the letters of fast speech."""


class TokenRecognition(Ranged, L.Callback):
    """Trains a recogniser on the codes of each level, and counts its errors on held-out speakers.

    At the end of a run (and for ``test``), the codec at rest, rank 0 alone. Into the rows of
    ``summary.json`` whose ``n_q`` is k go, of level k by itself, ``token_cer`` and ``token_wer``,
    errors in letters and in words over all held-out utterances. The recogniser learns from the
    utterances that the codec was trained on and is the same for every codec, so that figures
    compare codecs; see :mod:`kdlight.metrics.tokens.recogniser`. Codes of fewer than fifty frames a
    second are repeated, or there would be fewer steps than letters.

    Args:
        levels: Which levels, from 1.
        iterations: Batches of eight utterances for each recogniser.

    Raises:
        InputError: A number is below 1; the package jiwer is missing; or, before training starts,
            there is no codec, it lacks a level, or there are no transcripts.
    """

    def __init__(
        self, levels: list[PositiveInt] | None = None, iterations: PositiveInt = 1000
    ) -> None:
        levels = [1] if levels is None else levels
        if not levels:
            raise InputError("levels: expected at least one, found none.")
        check_installed("jiwer", "jiwer", "token_wer")
        self.levels = sorted(set(levels))
        self.iterations = iterations

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, DistillationModule)
        found, data = speech_run(self, trainer, pl_module)
        for name, codec in found:
            if self.levels[-1] > codec.n_q:
                raise InputError(
                    f"levels: expected at most {codec.n_q} of the {name}, found {self.levels[-1]}."
                )
        for what, utterances in (
            ("training", data.training_utterances()),
            ("held-out", heldout(trainer, None)),
        ):
            if not any(utterance.transcript for utterance in utterances):
                raise InputError(f"data: expected transcripts of {what} utterances, found none.")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._recognise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._recognise(trainer, pl_module)

    def _recognise(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, DistillationModule)
        log_dir = trainer.log_dir  # a collective: every rank asks, and once
        if not log_dir or not trainer.is_global_zero:
            return
        data = speech_of(trainer, "TokenRecognition")
        rows: list[Row] = []
        for name, codec in codecs_of(module):
            known = encoded(codec, data.training_utterances(), module.device)
            new = encoded(codec, heldout(trainer, None), module.device)
            # `test` ends in inference mode, in which nothing is trained.
            with torch.inference_mode(False), torch.enable_grad():
                for level in self.levels:
                    recogniser = train_recogniser(
                        of_level(known, level), codec.codebook_size, self.iterations
                    )
                    found = recognition_errors(recogniser, of_level(new, level))
                    errors = {"token_cer": found.cer, "token_wer": found.wer}
                    rows.append({"model": name, "n_q": level, **errors})
        path = Path(log_dir) / "summary.json"
        write_json(path, merged(read_json(path) if path.is_file() else [], rows))
        print_rows(rows, tuple(rows[0]), "What is read from each level")


def encoded(
    codec: Codec, utterances: Sequence[HeldOut], device: torch.device
) -> list[tuple[torch.Tensor, str]]:
    """Codes (n_q, F) and text of the utterances that have one."""
    found = []
    with resting(codec):
        for utterance in tqdm(utterances, desc="Encoding", delay=2, leave=False, disable=None):
            if utterance.transcript:
                codes = codec.encode(utterance.read()[None].to(device))[0].cpu()
                repeated = codes.repeat_interleave(repeats(codec.frame_rate), dim=1)
                found.append((repeated, utterance.transcript))
    return found


def repeats(frame_rate: float) -> int:
    """How often a code is given to the recogniser, for at least fifty of them a second."""
    return max(1, math.ceil(FRAME_RATE / frame_rate))


def of_level(speech: Sequence[tuple[torch.Tensor, str]], level: int) -> list[CodedSpeech]:
    """A copy of the codes of one level, from 1."""
    return [CodedSpeech(codes[level - 1].clone(), text) for codes, text in speech]
