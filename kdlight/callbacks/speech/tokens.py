"""What a run ends with: its codec as a file, and the tokens and the audio of held-out speech."""

from dataclasses import replace
from pathlib import Path

import lightning as L
from rich.console import Console
from torch import Tensor

from kdlight.callbacks.speech.codec import codecs_of, heldout, resting, speech_run
from kdlight.callbacks.speech.utterances import HeldOut
from kdlight.codec.codec import Codec, facts_of
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.storage.audio import write_audio
from kdlight.storage.files import save_model
from kdlight.storage.tokens import Tokens, write_tokens
from kdlight.training.base import DistillationModule

SHOWN = 20
"""Codes of a level that are printed."""


class TokenFiles(Ranged, L.Callback):
    """Writes the trained codec, and what it makes of a few held-out utterances.

    In the run's folder, at the end: ``codec.safetensors`` with its ``.json``, which every verb
    takes as ``--checkpoint``; in ``tokens/`` per utterance ``SPEAKER_NAME.npz`` and ``.json``, as
    ``encode`` writes them, and ``.wav``, as ``decode`` makes it of these. What was said, the first
    codes of each level and the path of the audio are printed.

    Args:
        utterances: Held-out utterances, the first of them; speakers take turns.

    Raises:
        InputError: The number is below 1; or, before training starts, there is no codec, or the
            data hold nothing out.
    """

    def __init__(self, utterances: PositiveInt = 1) -> None:
        self.utterances = utterances

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, DistillationModule)
        speech_run(self, trainer, pl_module)
        if not heldout(trainer, 1):
            raise InputError("data.heldout: expected held-out utterances to encode, found none.")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        log_dir = trainer.log_dir  # a collective: every rank asks, and once
        if not log_dir or not trainer.is_global_zero:
            return
        _, codec = codecs_of(pl_module)[0]
        utterances = heldout(trainer, self.utterances)
        with resting(codec):
            write_heldout(Path(log_dir), codec, utterances)


def write_heldout(folder: Path, codec: Codec, utterances: list[HeldOut]) -> None:
    """Write a codec, and tokens and audio of utterances; see :class:`TokenFiles`.

    Args:
        folder: Of the run.
        codec: In evaluation mode.
        utterances: What to encode.
    """
    path = folder / "codec.safetensors"
    save_model(codec, path)
    facts = facts_of(codec, path)
    device = next(codec.parameters()).device
    console = Console(soft_wrap=True, highlight=False)
    for utterance in utterances:
        audio = utterance.read()
        codes = codec.encode(audio[None].to(device))
        source = Path(utterance.name)
        name = f"{utterance.speaker}_{source.stem}".replace("/", "_")
        target = folder / "tokens" / f"{name}.npz"
        own = replace(facts, samples=audio.shape[-1], source=source.name)
        write_tokens(target, Tokens(codes[0].cpu(), own))
        spoken = codec.decode(codes)[0, :, : own.samples].nan_to_num()
        write_audio(target.with_suffix(".wav"), spoken, codec.sample_rate)
        console.print(told(utterance, codes[0]), markup=False)
        console.print(f"  as audio   {target.with_suffix('.wav')}", markup=False)


def told(utterance: HeldOut, codes: Tensor) -> str:
    """An utterance and the first of its codes (n_q, F), a line a level."""
    said = utterance.transcript or utterance.name
    lines = [f"Tokens of a held-out voice, {utterance.speaker}: {said}"]
    more = " ..." if codes.shape[1] > SHOWN else ""
    for level, row in enumerate(codes[:, :SHOWN].tolist(), start=1):
        lines.append(f"  level {level:<4} {' '.join(map(str, row))}{more}")
    return "\n".join(lines)
