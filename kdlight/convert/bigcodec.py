"""BigCodec."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.codec.factorized import FactorizedVQ
from kdlight.codec.published.alias_free import low_pass
from kdlight.codec.published.bigcodec import BigCodecDecoder, BigCodecEncoder
from kdlight.convert.seanet import NORMED
from kdlight.convert.weights import tensors_of
from kdlight.errors import InputError
from kdlight.storage.files import load_tensors, load_weights

PARTS = ("CodecEnc", "generator")
DILATIONS = (1, 3, 9)
"""Of the residual units, as published; weights do not tell them."""


def convert_bigcodec(path: Path, sample_rate: int | None = None) -> Codec:
    """BigCodec (arXiv:2409.05377) with the codes and audio of the original.

    The authors' program appends silence up to the next whole frame, and a frame of it to audio that
    has whole frames already; here the latter is left as it is.

    Args:
        path: ``bigcodec.pt`` of its authors: weights of the encoder and of the generator.
        sample_rate: Samples per second; by default 16,000, as published.

    Raises:
        InputError: The file is another model's.
    """
    source = str(path)
    found = load_tensors(path)
    encoding, generating = (tensors_of(found.get(part), f"{source}: {part}") for part in PARTS)
    weights = _renamed(encoding, "block.", "encoder.layers.", source)
    weights |= _renamed(generating, "model.", "decoder.layers.", source)
    coding = {name: value for name, value in generating.items() if name.startswith("quantizer.")}
    books = [value for name, value in coding.items() if name.endswith("._codebook.weight")]
    if not books or not all(book.ndim == 2 for book in books):
        raise InputError(f"{source}: generator: expected codebooks named quantizer.*, found none.")
    encoder = BigCodecEncoder(**_shape(weights, "encoder", source))
    decoder = BigCodecDecoder(**_shape(weights, "decoder", source))
    dimension = len(weights[_last_conv(weights, "encoder")])
    quantizer = FactorizedVQ(dimension, len(books), *books[0].shape)
    codec = Codec(encoder, quantizer, decoder, sample_rate or 16000, encoder.hop_length)
    load_weights(codec, weights | _quantizing(coding), source)
    return codec.eval()


def _renamed(weights: dict[str, Tensor], old: str, new: str, source: str) -> dict[str, Tensor]:
    """Weights of the layers ``old`` under our names; the filters are constants and left out.

    Raises:
        InputError: A filter is another one.
    """
    renamed = {}
    for name, value in weights.items():
        if not name.startswith(old):
            continue
        if name.endswith(".filter"):
            taps = low_pass()
            if value.numel() != len(taps) or not torch.allclose(value.flatten(), taps, atol=1e-5):
                raise InputError(
                    f"{source}: {name}: expected the filter of BigVGAN, found another."
                )
            continue
        name = new + name.removeprefix(old).replace("block.", "").replace("act.", "")
        renamed[_normed(name)] = value
    return renamed


def _normed(name: str) -> str:
    return re.sub("weight_([gv])$", lambda match: f"{NORMED}{'gv'.index(match[1])}", name)


def _quantizing(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the quantiser, whose linear projections are convolutions of one frame here."""
    renamed = {}
    for name, value in weights.items():
        name = name.replace("in_proj", "project_in").replace("out_proj", "project_out")
        projection = re.search(r"\.project_.*\.weight_[gv]$", name)
        renamed[_normed(name).replace("._codebook.", ".codebook.")] = (
            value[..., None] if projection else value
        )
    return renamed


def _last_conv(weights: dict[str, Tensor], part: str) -> str:
    """The weight of the last convolution of a part."""
    places = [
        int(match[1])
        for name in weights
        if (match := re.fullmatch(rf"{part}\.layers\.(\d+)\.{NORMED}1", name))
    ]
    return f"{part}.layers.{max(places, default=0)}.{NORMED}1"


def _shape(weights: dict[str, Tensor], part: str, source: str) -> dict[str, Any]:
    """Arguments of an encoder or decoder that its weights tell."""
    first, last = (
        weights.get(name) for name in (f"{part}.layers.0.{NORMED}1", _last_conv(weights, part))
    )
    # The encoder's strides lie behind residual units and an activation, the decoder's behind one.
    place = len(DILATIONS) + 1 if part == "encoder" else 1
    strided = {
        int(match[1]): value.shape[-1] // 2
        for name, value in weights.items()
        if (match := re.fullmatch(rf"{part}\.layers\.(\d+)\.{place}\.{NORMED}1", name))
    }
    lstm = [name for name in weights if re.match(rf"{part}\..*\.lstm\.weight_ih_l\d+$", name)]
    if first is None or last is None or not strided or not lstm:
        raise InputError(f"{source}: expected the layers of BigCodec's {part}, found others.")
    outer = last if part == "encoder" else first
    return {
        "dimension": outer.shape[0 if part == "encoder" else 1],
        "width": len(first),
        "ratios": tuple(strided[index] for index in sorted(strided)),
        "dilations": DILATIONS,
        "lstm": len(lstm),
    }
