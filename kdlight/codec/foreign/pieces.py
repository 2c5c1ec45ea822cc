"""EnCodec at 48 kHz: audio in overlapping pieces, each scaled to unit power."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.errors import InputError


class PiecewiseCodec(TransformersCodec):
    """An EnCodec of transformers that codes pieces (arXiv:2210.13438, section 3.1).

    In the published one a piece of a second begins every 0.99 s. As transformers' processor does,
    audio is filled up with silence to whole pieces; as its model does, what the last of them
    shares with a next one is coded once more, as a short piece at the end. What was scaled needs
    its scales to be decoded: see :meth:`scales`. A stereo model takes audio of two channels, or
    hears mono audio on both; :meth:`decode` averages its channels, :meth:`decode_channels` keeps
    them.

    It can code, but neither be trained nor teach: pieces overlap, so that a frame has no place.

    Args:
        config: What the ``config.json`` of a folder of transformers says.

    Raises:
        InputError: As :meth:`check`, or the settings make no model.
    """

    @classmethod
    def check(cls, config: Any) -> None:
        """Refuse what is no configuration of an EnCodec of pieces.

        Raises:
            InputError: It is another model's, or the pieces have no length or no overlap.
        """
        if not isinstance(config, dict) or config.get("model_type") != "encodec":
            raise InputError("chunk_length_s: expected a codec of pieces to be an EnCodec.")
        for key in ("chunk_length_s", "overlap"):
            found = config.get(key)
            if not isinstance(found, (int, float)) or not 0 < found < (
                1 if key == "overlap" else 60
            ):
                raise InputError(f"{key}: expected that of pieces, found {found!r}.")
        hop = math.prod(config.get("upsampling_ratios", (8, 5, 4, 2)))
        length = int(config["chunk_length_s"] * config.get("sampling_rate", 24000))
        if length % hop:
            raise InputError(
                f"chunk_length_s: expected whole frames of {hop} samples, found {length} samples."
            )

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        settings = self.model.config
        self.piece_samples = int(settings.chunk_stride)
        self.piece_frames = settings.chunk_length // self.hop_length
        self.piece_length = int(settings.chunk_length)
        self.audio_channels = int(settings.audio_channels)
        self.scaled = bool(settings.normalize)

    @property
    def frame_rate(self) -> float:
        return self.piece_frames * self.sample_rate / self.piece_samples

    def coded_samples(self, samples: int) -> int:
        pieces = -(-samples // self.piece_samples)
        return (pieces - 1) * self.piece_samples + self.piece_length

    @torch.no_grad()
    def encode(self, audio: Tensor, n_q: int | None = None) -> Tensor:
        """Codes (B, n_q, F) int64 of audio (B, 1 or audio_channels, T), piece after piece."""
        codes = []
        for piece, scale in self._pieces(audio):
            latents = self.encoder(piece / scale[..., None] if self.scaled else piece)
            codes.append(self.quantizer.encode(latents, n_q))
        return torch.cat(codes, dim=-1)

    @torch.no_grad()
    def scales(self, audio: Tensor) -> Tensor | None:
        """What each piece of audio is divided by, (B, pieces); None if by nothing."""
        if not self.scaled:
            return None
        return torch.cat([scale for _, scale in self._pieces(audio)], dim=1)

    def check_audio(self, audio: Tensor) -> None:
        channels = sorted({1, self.audio_channels})
        if audio.ndim != 3 or audio.shape[1] not in channels or audio.shape[2] == 0:
            counts = " or ".join(map(str, channels))
            raise InputError(f"audio: expected (B, {counts}, T), found {tuple(audio.shape)}.")

    def _pieces(self, audio: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pieces (B, channels, t) and their scales (B, 1)."""
        self.check_audio(audio)
        length = self.coded_samples(audio.shape[-1])
        whole = F.pad(audio, (0, length - audio.shape[-1]))
        whole = whole.expand(-1, self.audio_channels, -1)
        for start in range(0, length, self.piece_samples):
            piece = whole[..., start : start + self.piece_length]
            mono = piece.sum(dim=1, keepdim=True) / self.audio_channels
            yield piece, mono.square().mean(dim=-1).sqrt() + 1e-8

    @torch.no_grad()
    def decode(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """Audio (B, 1, T), the mean of what :meth:`decode_channels` gives."""
        return self.decode_channels(codes, scales).mean(dim=1, keepdim=True)

    @torch.no_grad()
    def decode_channels(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """Audio (B, audio_channels, T) of codes (B, n, F), T as coded.

        Args:
            codes: As :meth:`encode` gives them.
            scales: As :meth:`scales` gives them; without, each piece comes at unit power.

        Raises:
            InputError: There are not as many scales as pieces.
        """
        pieces = torch.split(codes, self.piece_frames, dim=-1)
        if scales is not None and scales.shape != (len(codes), len(pieces)):
            raise InputError(
                f"scales: expected {(len(codes), len(pieces))}, found {tuple(scales.shape)}."
            )
        # Where two pieces overlap, each fades with the distance from its middle.
        place = torch.linspace(0, 1, self.piece_length + 2, device=codes.device)[1:-1]
        weight = 0.5 - (place - 0.5).abs()
        length = (len(pieces) - 1) * self.piece_samples + pieces[-1].shape[-1] * self.hop_length
        total = torch.zeros(len(codes), self.audio_channels, length, device=codes.device)
        share = torch.zeros(length, device=codes.device)
        for index, piece in enumerate(pieces):
            heard = self.decoder(self.quantizer.decode(piece))
            if scales is not None:
                heard = heard * scales[:, index, None, None]
            size, start = heard.shape[-1], index * self.piece_samples
            total[..., start : start + size] += weight[:size] * heard
            share[start : start + size] += weight[:size]
        return total / share
