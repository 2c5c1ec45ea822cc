"""Small models of the makers of codecs, with random weights and codebooks that are in use."""

from collections import OrderedDict
from typing import Any

import torch
from encodec.model import EncodecModel
from encodec.modules import SEANetDecoder, SEANetEncoder
from encodec.quantization import ResidualVectorQuantizer
from torch import Tensor, nn

SHAPE: dict[str, Any] = {"dimension": 16, "n_filters": 4, "ratios": [4, 3, 2]}
HOP = 24


def spread(books: list[Tensor], latents: Tensor) -> None:
    """Put codebooks (K, D) on some of the latents (1, D, F), so that many codes are used."""
    frames = latents[0].T
    for level, book in enumerate(books):
        start = frames - frames.mean(dim=0) * (level > 0)
        book.copy_(start[: len(book)] * 0.5**level)


@torch.no_grad()
def encodec(channels: int = 1, norm: str = "weight_norm") -> EncodecModel:
    """A small EnCodec of its own package: 24 kHz, causal, two units a stride."""
    shape = {**SHAPE, "channels": channels, "norm": norm, "n_residual_layers": 2}
    causal = norm == "weight_norm"
    encoder = SEANetEncoder(**shape, causal=causal)
    decoder = SEANetDecoder(**shape, causal=causal)
    quantizer = ResidualVectorQuantizer(dimension=16, n_q=3, bins=64)
    model = EncodecModel(encoder, decoder, quantizer, [6.0, 12.0, 18.0], 24000, channels).eval()
    books = [layer._codebook for layer in quantizer.vq.layers]
    for book in books:
        book.inited.fill_(1)
    spread([book.embed for book in books], encoder(torch.randn(1, channels, 64 * HOP)))
    return model


class BothWays(nn.Module):
    """The LSTM of SpeechTokenizer's encoder (arXiv:2308.16692, section 3.1), its input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, 2, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.permute(2, 0, 1)
        return (self.lstm(steps)[0] + steps.repeat(1, 1, 2)).permute(1, 2, 0)


class SpeechTokenizerLayout(nn.Module):
    """The names of SpeechTokenizer's state dict, built of EnCodec's layers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SEANetEncoder(**SHAPE)
        widest = 4 * 2**3
        self.encoder.model[-3] = BothWays(widest)
        self.encoder.model[-1] = SEANetEncoder(**{**SHAPE, "n_filters": 8}).model[-1]
        self.quantizer = ResidualVectorQuantizer(dimension=16, n_q=3, bins=64)
        self.decoder = SEANetDecoder(**SHAPE)
        self.transform = nn.Linear(16, 12)

    def encode(self, audio: Tensor) -> Tensor:
        """Codes (n_q, B, F)."""
        codes: Tensor = self.quantizer.vq.encode(self.encoder(audio))
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Audio of codes (n_q, B, F)."""
        audio: Tensor = self.decoder(self.quantizer.vq.decode(codes))
        return audio


@torch.no_grad()
def speechtokenizer() -> SpeechTokenizerLayout:
    """A small one, in evaluation mode."""
    model = SpeechTokenizerLayout().eval()
    books = [layer._codebook for layer in model.quantizer.vq.layers]
    for book in books:
        book.inited.fill_(1)
    spread([book.embed for book in books], model.encoder(torch.randn(1, 1, 64 * HOP)))
    return model


def wrapped(state: dict[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """As a trainer that wraps its model saves it."""
    return OrderedDict((f"module.{name}", value) for name, value in state.items())
