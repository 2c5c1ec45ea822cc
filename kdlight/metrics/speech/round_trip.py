"""A codec at work: its codes counted, its round trips checked, its encoder and decoder timed."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.metrics.speech.speed import RealTimeFactor
from kdlight.metrics.tokens.statistics import LEVEL_FIGURES, CodeMatch, TokenStatistics


class RoundTrip:
    """Encodes and decodes utterances with a number of levels.

    Args:
        codec: In evaluation mode.
        n_q: Levels, at most the codec's.
        device: Where the codec works; codes are counted on the CPU.
    """

    def __init__(self, codec: Codec, n_q: int, device: torch.device) -> None:
        self.codec, self.n_q, self.device = codec.to(device), n_q, device
        self.tokens = TokenStatistics(n_q, codec.codebook_size, codec.frame_rate)
        self.match = CodeMatch(n_q, codec.codebook_size)
        self.encoding, self.decoding = RealTimeFactor(), RealTimeFactor()
        # The first call of an operator sets it up, which is no part of a real-time factor.
        codec.decode(codec.encode(torch.zeros(1, 1, codec.sample_rate, device=device), n_q))

    def __call__(self, audio: Tensor) -> Tensor:
        """Decoded audio (T,) of audio (T,), on the CPU."""
        seconds = len(audio) / self.codec.sample_rate
        batch = audio.reshape(1, 1, -1).to(self.device)
        codes = self.encoding.timed(partial(self.codec.encode, batch, self.n_q), seconds)
        scales = self.codec.scales(batch)
        decoded = self.decoding.timed(partial(self.codec.decode, codes, scales), seconds)
        decoded = decoded[..., : len(audio)]
        self.tokens.update(codes.cpu())
        self.match.update(codes.cpu(), self.codec.encode(decoded, self.n_q).cpu())
        return decoded[0, 0].cpu()

    def row(self) -> dict[str, Any]:
        """The codec's figures: :mod:`kdlight.metrics.tokens.statistics` and real-time factors.

        ``rtf_encode_cpu``, ``rtf_encode_wall``, ``rtf_decode_cpu`` and ``rtf_decode_wall`` are
        seconds of work on one thread for a second of audio.
        """
        row: dict[str, Any] = {
            "n_q": self.n_q,
            "codebook_size": self.codec.codebook_size,
            "frame_rate": self.codec.frame_rate,
            "sample_rate": self.codec.sample_rate,
        }
        for name, value in (self.tokens.compute() | self.match.compute()).items():
            row[name] = value.reshape(-1).tolist() if name in LEVEL_FIGURES else value.item()
        for kind, factor in (("encode", self.encoding), ("decode", self.decoding)):
            row |= {f"rtf_{kind}_{name}": value.item() for name, value in factor.compute().items()}
        return row
