"""A neural codec: encoder, quantiser, decoder."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlight.codec.quantization import Quantized, Quantizer
from kdlight.core.ranges import PositiveInt, SampleRate
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.storage.files import sha256_of
from kdlight.storage.tokens import TokenFacts, digest_of


class CodecOutput(NamedTuple):
    """What a codec makes of audio in training.

    Attributes:
        audio: Reconstruction (B, 1, T).
        quantized: Latents, codes and losses.
    """

    audio: Tensor
    quantized: Quantized


class Codec(Recorded, nn.Module):
    """Audio to codes and back.

    Args:
        encoder: (B, 1, T) to latents (B, D, T / hop_length), for T a multiple of the hop.
        quantizer: Of latents of D channels.
        decoder: Latents (B, D, F) to (B, 1, F * hop_length).
        sample_rate: Samples per second.
        hop_length: Samples of a frame.

    Attributes:
        frame_rate: Frames per second.
        context: Frames on each side that a frame's codes and samples depend on at most; None if
            there is no bound, as with a recurrent network.
        causal: Whether a frame's codes and samples depend on no later sample.
        piece_samples: Samples from the start of a piece to that of the next, where audio is coded
            in overlapping pieces; 0 where it is coded as a whole.
        piece_frames: Frames of a piece.
        audio_channels: Channels that it can code; audio of one channel goes into all of them.
    """

    piece_samples = 0
    piece_frames = 0
    audio_channels = 1

    def __init__(
        self,
        encoder: nn.Module,
        quantizer: Quantizer,
        decoder: nn.Module,
        sample_rate: SampleRate,
        hop_length: PositiveInt,
    ) -> None:
        super().__init__()
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            made_for = getattr(part, "hop_length", hop_length)
            if made_for != hop_length:
                raise InputError(f"{name}: expected hop_length {hop_length}, found {made_for}.")
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.sample_rate = sample_rate
        self.hop_length = hop_length

    @property
    def n_q(self) -> int:
        """Number of levels."""
        return self.quantizer.n_q

    @property
    def codebook_size(self) -> int:
        """Codes of a level."""
        return self.quantizer.codebook_size

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def context(self) -> int | None:
        parts = (getattr(self.encoder, "context", None), getattr(self.decoder, "context", None))
        return None if None in parts else sum(part for part in parts if part is not None)

    @property
    def causal(self) -> bool:
        return all(getattr(part, "causal", False) for part in (self.encoder, self.decoder))

    def kbps(self, n_q: int | None = None) -> float:
        """Kilobits per second of ``n_q`` levels at a fixed length of code."""
        levels = self.n_q if n_q is None else n_q
        return self.frame_rate * levels * math.log2(self.codebook_size) / 1000

    def latents(self, audio: Tensor) -> Tensor:
        """Latents (B, D, F) of audio (B, 1, T), F = ceil(T / hop_length), padded with silence."""
        self.check_audio(audio)
        missing = self.coded_samples(audio.shape[-1]) - audio.shape[-1]
        latents: Tensor = self.encoder(F.pad(audio, (0, missing)))
        return latents

    def coded_samples(self, samples: int) -> int:
        """Length that audio of so many samples is brought to with silence: whole frames.

        Utterances that are brought to one length can be coded in one batch.
        """
        return -(-samples // self.hop_length) * self.hop_length

    def check_audio(self, audio: Tensor) -> None:
        """Refuse what is no audio (B, 1, T).

        Raises:
            InputError: Another shape, or no sample.
        """
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.shape[2] == 0:
            raise InputError(f"audio: expected (B, 1, T), found {tuple(audio.shape)}.")

    def forward(self, audio: Tensor, n_q: int | Tensor | None = None) -> CodecOutput:
        """Reconstruct audio (B, 1, T), with gradient.

        Args:
            audio: (B, 1, T) in [-1, 1].
            n_q: Levels to use; see :meth:`~kdlight.codec.quantization.Quantizer.forward`.
        """
        quantized = self.quantizer(self.latents(audio), n_q)
        return CodecOutput(self.decoder(quantized.latents)[..., : audio.shape[-1]], quantized)

    @torch.no_grad()
    def encode(self, audio: Tensor, n_q: int | None = None) -> Tensor:
        """Codes (B, n_q, F) int64 of audio (B, 1, T)."""
        return self.quantizer.encode(self.latents(audio), n_q)

    def scales(self, audio: Tensor) -> Tensor | None:
        """What decoding needs of audio (B, 1, T) beside codes, (B, pieces); None if nothing."""
        return None

    def require_whole(self, purpose: str) -> None:
        """Refuse a codec of pieces where latents of a whole are needed.

        Raises:
            InputError: It is one.
        """
        if self.piece_samples:
            raise InputError(
                f"{purpose}: expected a codec of audio as a whole, found one of pieces of "
                f"{self.piece_frames} frames."
            )

    @torch.no_grad()
    def decode(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """Audio (B, 1, F * hop_length) of codes (B, n, F).

        Args:
            codes: As :meth:`encode` gives them.
            scales: As :meth:`scales` gives them.
        """
        audio: Tensor = self.decoder(self.quantizer.decode(codes))
        return audio

    @torch.no_grad()
    def decode_channels(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """Audio (B, audio_channels, T) of codes, of which :meth:`decode` gives the mean."""
        return self.decode(codes, scales)


def hash_of(codec: Codec, path: Path) -> str:
    """Hash of a codec's file, or of its weights if it comes of a folder or the hub."""
    return sha256_of(path) if path.is_file() else digest_of(codec.state_dict())


def facts_of(codec: Codec, path: Path, n_q: int | None = None) -> TokenFacts:
    """What the token files of a codec have in common; ``samples`` and ``source`` are still open.

    Args:
        codec: As its file gives it, or as it was just saved there.
        path: Its file or folder, or its id on the hub.
        n_q: Levels of the tokens; all by default.
    """
    return TokenFacts(
        sample_rate=codec.sample_rate,
        hop_length=codec.hop_length,
        frame_rate=codec.frame_rate,
        codebook_size=codec.codebook_size,
        n_q=codec.n_q if n_q is None else n_q,
        samples=0,
        codec=path.name,
        codec_sha256=hash_of(codec, path),
        codec_digest=digest_of(codec.state_dict()),
        source="",
        piece_samples=codec.piece_samples,
        piece_frames=codec.piece_frames,
        channels=codec.audio_channels,
    )
