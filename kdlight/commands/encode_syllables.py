"""``encode --segments``: the syllables of audio files, with times, units and embeddings."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdlight.codec.syllable_encoder import SyllableEncoder
from kdlight.commands.shared.trees import Told, each_in_turn, planned
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.segments import Segment
from kdlight.teachers.checkpoint import models_of


def run_segments(
    options: argparse.Namespace, listed: Callable[[Path], list[tuple[Segment, Path]]]
) -> None:
    """Write NAME.jsonl and NAME.npz for each input.

    Args:
        options: Of ``encode``.
        listed: What an input stands for.

    Raises:
        InputError: The checkpoint holds no encoder of syllables, or as ``encode``.
    """
    encoder = load_encoder(options.checkpoint, options.model).to(options.device)
    work = planned(options.inputs, options.output, listed, ".npz")

    def hear(segment: Segment, target: Path, told: Told) -> None:
        found = encoder.syllables(segment.read(encoder.sample_rate))
        rows = [
            {"start": round(start, 3), "end": round(end, 3), "unit": unit}
            for (start, end), unit in zip(found.times.tolist(), found.units.tolist(), strict=True)
        ]
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target.with_suffix(".jsonl")) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                times=found.times.numpy(),
                units=found.units.numpy(),
                embeddings=found.embeddings.numpy(),
            )

    each_in_turn(work, hear, options.output, "listening")


def load_encoder(path: Path, model: str | None = None) -> SyllableEncoder:
    """The encoder of syllables of a checkpoint or a ``.safetensors`` file.

    Raises:
        InputError: It is missing, damaged, or holds none.
    """
    found = models_of(path)
    for name, each in found:
        if isinstance(each, SyllableEncoder) and model in (None, name):
            return each
    kinds = ", ".join(sorted({type(each).__name__ for _, each in found}))
    raise InputError(f"{path}: --segments: expected an encoder of syllables, found {kinds}.")
