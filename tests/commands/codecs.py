"""Small codecs of every kind, with codebooks in use, as files for the command line."""

from pathlib import Path

import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder
from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import LayerPaddedCodec, SEANetDecoder, SEANetEncoder
from kdlight.storage.files import save_model
from tests.metrics.speech.signals import voice

RATE, HOP = 16000, 320
SHAPE = {"dimension": 8, "n_filters": 4, "ratios": [8, 5, 4, 2]}
BOTH_WAYS = {"causal": False, "pad_mode": "reflect"}


def parts(kind: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder and decoder."""
    if kind == "causal":
        return SEANetEncoder(**SHAPE), SEANetDecoder(**SHAPE)
    if kind == "both_ways":
        return SEANetEncoder(**SHAPE, **BOTH_WAYS, bidirectional=True), SEANetDecoder(
            **SHAPE, **BOTH_WAYS
        )
    return MelEncoder(8, RATE, HOP, 1024, 20, 8, 1), SpectrumDecoder(8, HOP, 1024, 8, 1)


KINDS = ("causal", "both_ways", "frame_rate")


def small_codec(kind: str = "causal", seed: int = 0, n_q: int = 3) -> Codec:
    """One in evaluation mode whose codes of speech are varied."""
    torch.manual_seed(seed)
    encoder, decoder = parts(kind)
    made = LayerPaddedCodec if kind == "both_ways" else Codec
    codec = made(encoder, ResidualVQ(8, n_q, 32), decoder, RATE, HOP)
    codec.train()
    codec(torch.stack([voice(1.0, seed=number) for number in range(4)])[:, None])
    return codec.eval()


def saved(folder: Path, kind: str = "causal", seed: int = 0) -> tuple[Codec, Path]:
    """A small codec and its file."""
    codec, path = small_codec(kind, seed), folder / f"{kind}{seed}.safetensors"
    save_model(codec, path)
    return codec, path


@torch.no_grad()
def assert_same_codes(codec: Codec, audio: Tensor, found: Tensor) -> None:
    """Codes (n_q, F) are those of audio (1, T) but where rounding decides between two as near."""
    residual = codec.latents(audio[None])[0].T
    largest, differing = residual.square().sum(dim=1).max(), 0
    same = torch.ones(len(residual), dtype=torch.bool)
    assert found.shape[-1] == len(residual)
    expected = codec.encode(audio[None], len(found))[0]
    for level, (mine, right) in enumerate(zip(found, expected, strict=True)):
        book = codec.quantizer.layers[level].codebook
        apart, least = ((residual - book[codes]).square().sum(dim=1) for codes in (mine, right))
        assert (apart - least)[same].abs().max() < 1e-6 * largest
        differing += int((same & (mine != right)).sum())
        same &= mine == right  # what follows a tie is another residual's
        residual = residual - book[right]
    assert differing <= 0.01 * found.numel()
