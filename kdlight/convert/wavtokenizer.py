"""WavTokenizer."""

import re
from pathlib import Path

from torch import Tensor

from kdlight.codec.published.vocos import VocosDecoder
from kdlight.codec.seanet import LayerPaddedCodec, SEANetEncoder
from kdlight.convert.seanet import common_names, quantizer_of, seanet_shape
from kdlight.convert.weights import tensors_of
from kdlight.errors import InputError
from kdlight.storage.files import load_tensors, load_weights

CODEC = "feature_extractor.encodec."
LAYERS = (
    (r"^backbone\.pos_net\.(\d)\.norm1\.", r"prior.\1.layers.0."),
    (r"^backbone\.pos_net\.(\d)\.conv1\.", r"prior.\1.layers.2."),
    (r"^backbone\.pos_net\.(\d)\.norm2\.", r"prior.\1.layers.3."),
    (r"^backbone\.pos_net\.(\d)\.conv2\.", r"prior.\1.layers.5."),
    (r"^backbone\.pos_net\.2\.q\.", "prior.2.query."),
    (r"^backbone\.pos_net\.2\.k\.", "prior.2.key."),
    (r"^backbone\.pos_net\.2\.v\.", "prior.2.value."),
    (r"^backbone\.pos_net\.2\.proj_out\.", "prior.2.output."),
    (r"^backbone\.pos_net\.", "prior."),
    (r"^backbone\.embed\.", "embed."),
    (r"^backbone\.norm\.", "first_norm."),
    (r"^backbone\.final_layer_norm\.", "last_norm."),
    (r"^backbone\.convnext\.(\d+)\.dwconv\.", r"blocks.\1.depthwise."),
    (r"^backbone\.convnext\.(\d+)\.pwconv1\.", r"blocks.\1.widen."),
    (r"^backbone\.convnext\.(\d+)\.pwconv2\.", r"blocks.\1.narrow."),
    (r"^backbone\.convnext\.(\d+)\.gamma$", r"blocks.\1.scale"),
    (r"^backbone\.convnext\.", "blocks."),
    (r"^head\.out\.", "head."),
)
"""Patterns of the authors' names and what stands there in ours."""
BANDWIDTH = 0
"""The embedding of the adaptive norms that the authors' own program decodes with."""


def convert_wavtokenizer(path: Path, sample_rate: int | None = None) -> LayerPaddedCodec:
    """WavTokenizer (arXiv:2408.16532) with the codes and audio of the original.

    Names and shapes of the weights tell the architecture; the YAML file beside them is not needed.
    Norms that adapt to one of several bandwidths are those of the first, as in the authors'
    examples: there is but one.

    Args:
        path: A ``.ckpt`` of its authors.
        sample_rate: Samples per second; by default 24,000, as published.

    Raises:
        InputError: The file is another model's.
    """
    source = str(path)
    found = load_tensors(path)
    weights = tensors_of(found.get("state_dict"), source)
    if not any(name.startswith("backbone.pos_net.") for name in weights):
        raise InputError(f"{source}: expected weights named backbone.pos_net.*, found none.")
    coding = common_names(
        {
            name.removeprefix(CODEC): value
            for name, value in weights.items()
            if name.startswith((f"{CODEC}encoder.", f"{CODEC}quantizer."))
        }
    )
    encoder = SEANetEncoder(
        **seanet_shape(coding, "encoder", source), causal=False, pad_mode="reflect"
    )
    quantizer = quantizer_of(coding, encoder.dimension, source)
    if quantizer.n_q != 1:
        raise InputError(f"{source}: expected one level of codes, found {quantizer.n_q}.")
    decoding = _decoding(weights)
    decoder = _decoder(decoding, encoder, source)
    codec = LayerPaddedCodec(encoder, quantizer, decoder, sample_rate or 24000, encoder.hop_length)
    load_weights(codec, coding | {f"decoder.{name}": decoding[name] for name in decoding}, source)
    return codec.eval()


def _decoding(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the decoder under our names."""
    renamed = {}
    for name, value in weights.items():
        if not name.startswith(("backbone.", "head.out.")):
            continue
        for old, new in LAYERS:
            name = re.sub(old, new, name)
        adaptive = re.fullmatch(r"(.*norm\.)(scale|shift)\.weight", name)
        if adaptive is not None:
            name = adaptive[1] + {"scale": "weight", "shift": "bias"}[adaptive[2]]
            value = value[BANDWIDTH]
        renamed[name] = value
    return renamed


def _decoder(weights: dict[str, Tensor], encoder: SEANetEncoder, source: str) -> VocosDecoder:
    shapes = {
        name: weights[name].shape for name in ("embed.weight", "head.weight") if name in weights
    }
    blocks = [name for name in weights if re.fullmatch(r"blocks\.\d+\.widen\.weight", name)]
    if len(shapes) < 2 or not blocks:
        raise InputError(f"{source}: expected the layers of a Vocos decoder, found others.")
    width, dimension = shapes["embed.weight"][:2]
    hidden = len(weights[blocks[0]])
    n_fft = shapes["head.weight"][0] - 2
    return VocosDecoder(dimension, width, hidden, len(blocks), n_fft, encoder.hop_length)
