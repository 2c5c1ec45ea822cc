"""Codecs by name, and a codec as the teacher of a lighter one: its codes and latents."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.codec.codec import Codec
from kdlight.codec.foreign.files import is_repository, read_transformers
from kdlight.errors import InputError
from kdlight.storage.files import load_model
from kdlight.teachers.checkpoint import load_models
from kdlight.teachers.frames import FrameTeacher

BUNDLED = Path(__file__).parent.parent / "assets" / "speech_codec.safetensors"
"""A codec of speech at 16 kHz, for who has none: ``kdlight/assets/README.md``."""


def load_codec(path: str, model: str | None = None) -> Codec:
    """A codec from wherever one can be named, in evaluation mode.

    In a configuration it is the ``class_path`` of a codec to go on training with.

    Args:
        path: A checkpoint of a run, a ``.safetensors`` model, a folder of transformers (EnCodec,
            DAC, Mimi, X-Codec), or the id of such a model on the Hugging Face hub.
        model: Which model of a checkpoint; the first codec by default.

    Raises:
        InputError: There is nothing of that name, it is damaged or foreign, or holds no such codec.
    """
    file = Path(path)
    found: list[tuple[str, nn.Module]]
    if file.is_dir() or is_repository(path):
        found = [(file.name, read_transformers(path))]
    elif file.suffix == ".safetensors":
        found = [(file.stem, load_model(file))]
    else:
        found = load_models(file)
    codecs = {name: each for name, each in found if isinstance(each, Codec)}
    if not codecs:
        kinds = ", ".join(sorted({type(each).__name__ for _, each in found}))
        raise InputError(f"{path}: expected a codec, found {kinds}.")
    if model is not None and model not in codecs:
        raise InputError(f"{path}: expected a codec called {model!r}, found {', '.join(codecs)}.")
    return codecs[model] if model is not None else next(iter(codecs.values()))


class CodecTeacher(FrameTeacher):
    """A finished codec: features are latents, and its codes are labels for a student's logits.

    Args:
        path: See :func:`load_codec`.
        n_q: Levels whose sum is the feature; 1 is the level that a semantic codec puts meaning
            into, None takes all.
        features: ``quantized`` latents, or those that the ``encoder`` gives before (``n_q`` then
            only limits :meth:`codes`).

    Raises:
        InputError: As :func:`load_codec`, or the codec lacks a level or codes pieces.
    """

    def __init__(
        self,
        path: str,
        n_q: int | None = None,
        features: Literal["quantized", "encoder"] = "quantized",
    ) -> None:
        super().__init__()
        codec = load_codec(path)
        codec.require_whole(f"{path}: a teacher")
        if n_q is not None and not 1 <= n_q <= codec.n_q:
            raise InputError(f"{path}: n_q: expected 1 to {codec.n_q}, found {n_q}.")
        if features not in ("quantized", "encoder"):
            raise InputError(f"features: expected 'quantized' or 'encoder', found {features!r}.")
        self.codec = codec
        self.n_q = n_q
        self.features = features
        self.sample_rate, self.hop_length = codec.sample_rate, codec.hop_length
        self.width = codec.quantizer.dim
        self.freeze()

    def states(self, audio: Tensor) -> Tensor:
        latents = self.codec.latents(audio[:, None])
        if self.features == "quantized":
            latents = self.codec.quantizer.decode(self.codec.quantizer.encode(latents, self.n_q))
        return latents.transpose(1, 2)

    @torch.no_grad()
    def codes(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Codes of a batch, of every utterance as it is heard without its padding.

        Args:
            audio: (B, 1, T) at the teacher's rate.
            lengths: Samples of every utterance, (B,).

        Returns:
            (B, n_q, F) int64; 0 beyond an utterance.
        """
        levels = self.codec.n_q if self.n_q is None else self.n_q
        frames = -(-audio.shape[2] // self.hop_length)
        codes = torch.zeros(len(audio), levels, frames, dtype=torch.int64, device=audio.device)
        sizes = lengths.tolist()
        for size in sorted(set(sizes)):
            rows = [row for row, own in enumerate(sizes) if own == size]
            found = self.codec.encode(audio[rows, :, :size], self.n_q)
            codes[rows, :, : found.shape[2]] = found
        return codes
