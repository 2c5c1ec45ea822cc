"""A codec as the teacher of a lighter one: its codes, and the latents they stand for."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.errors import InputError
from kdlight.storage.files import load_model
from kdlight.teachers.frames import FrameTeacher


class CodecTeacher(FrameTeacher):
    """A finished codec: features are latents, and its codes are labels for a student's logits.

    ``python -m kdlight convert`` makes such files of foreign codecs.

    Args:
        path: A codec that kdlight wrote, ``.safetensors``.
        n_q: Levels whose sum is the feature; 1 is the level that a semantic codec puts meaning
            into, None takes all.
        features: ``quantized`` latents, or those that the ``encoder`` gives before (``n_q`` then
            only limits :meth:`codes`).

    Raises:
        InputError: The file is missing, damaged or no codec, or the codec lacks a level.
    """

    def __init__(
        self,
        path: str,
        n_q: int | None = None,
        features: Literal["quantized", "encoder"] = "quantized",
    ) -> None:
        super().__init__()
        codec = load_model(Path(path))
        if not isinstance(codec, Codec):
            raise InputError(f"{path}: expected a codec, found a {type(codec).__name__}.")
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
