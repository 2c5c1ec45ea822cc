"""Checkpoints of X-Codec's authors, as X-Codec of transformers."""

import io
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.convert.dac import dac_layers
from kdlight.convert.weights import tensors_of, with_layers_renamed, without_weight_norm
from kdlight.errors import InputError
from kdlight.storage.files import load_tensors, load_weights

SPEECH = "semantic_model."
HEAD = 64
"""Channels of a head of HuBERT, which weights do not tell."""
LAYERS = (
    (r"^((?:en|de)coder_semantic\..*?conv[12]?)\.conv\.", r"\1."),
    (r"^fc_prior\.", "fc."),
    (r"^fc_post([12])\.", r"fc\1."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.quantizers.\1.codebook."),
    (r"(\.pos_conv_embed\.conv\.)weight_g$", r"\1parametrizations.weight.original0"),
    (r"(\.pos_conv_embed\.conv\.)weight_v$", r"\1parametrizations.weight.original1"),
)
"""Patterns of the authors' names and what stands there in transformers'."""


def convert_xcodec(path: Path, sample_rate: int | None = None) -> TransformersCodec:
    """X-Codec (arXiv:2408.17175) with HuBERT inside, with the codes and audio of the original.

    Names and shapes of the weights tell the architecture; HuBERT is taken to be a base one (layers
    normalised behind their sums, heads of 64 channels).

    Args:
        path: A ``.pth`` of its authors.
        sample_rate: Samples per second; by default 16,000, as published.

    Raises:
        InputError: The file is another model's, or has WavLM inside.
    """
    source = str(path)
    with torch.serialization.safe_globals([io.BytesIO]):  # published files hold some, of bytes
        found = load_tensors(path)
    found = {name: value for name, value in found.items() if not isinstance(value, io.BytesIO)}
    weights = tensors_of(found, source)
    if f"{SPEECH}encoder.layers.0.attention.rel_attn_embed.weight" in weights:
        raise InputError(
            f"{source}: expected HuBERT as the speech model inside, found WavLM: such codecs are "
            "read from folders of transformers."
        )
    config = _config(weights, sample_rate or 16000, source)
    speech = {name: value for name, value in weights.items() if name.startswith(SPEECH)}
    plain = without_weight_norm(
        {name: value for name, value in weights.items() if name not in speech}
    )
    stages = len(config["acoustic_model_config"]["downsampling_ratios"])
    names = dac_layers(stages, decoder="decoder_2")
    names = {old: f"acoustic_{new}" for old, new in names.items()}
    renamed = {}
    for name, value in (with_layers_renamed(plain, names) | speech).items():
        for old, new in LAYERS:
            name = re.sub(old, new, name)
        renamed[name] = value
    codec = TransformersCodec(config)
    load_weights(codec.model, renamed, source)
    return codec.eval()


def _config(weights: dict[str, Tensor], sample_rate: int, source: str) -> dict[str, Any]:
    """What transformers' ``config.json`` would say."""

    def shape(name: str) -> torch.Size:
        if name not in weights:
            raise InputError(f"{source}: expected X-Codec's weight {name}, found none.")
        return weights[name].shape

    strided = _numbered(weights, r"encoder\.block\.(\d+)\.block\.4\.weight_v")
    ratios = [each.shape[-1] // 2 for each in strided]
    books = _numbered(weights, r"quantizer\.vq\.layers\.(\d+)\._codebook\.embed")
    if not ratios or not books:
        raise InputError(f"{source}: expected the layers of X-Codec, found others.")
    size = len(books[0])
    bits = math.ceil(sample_rate / math.prod(ratios)) * math.ceil(math.log2(size))  # of a level
    return {
        "model_type": "xcodec",
        "sample_rate": sample_rate,
        "codebook_size": size,
        "target_bandwidths": [bits * count / 1000 for count in range(1, len(books) + 1)],
        "acoustic_model_config": {
            "model_type": "dac",
            "encoder_hidden_size": shape("encoder.block.0.weight_v")[0],
            "decoder_hidden_size": shape("decoder_2.model.0.weight_v")[0],
            "downsampling_ratios": ratios,
            "upsampling_ratios": ratios,
            "hidden_size": shape("fc_post2.weight")[0],
            "sampling_rate": sample_rate,
        },
        "semantic_model_config": _speech_config(
            {
                name.removeprefix(SPEECH): value
                for name, value in weights.items()
                if name.startswith(SPEECH)
            },
            source,
        ),
    }


def _speech_config(weights: dict[str, Tensor], source: str) -> dict[str, Any]:
    convs = _numbered(weights, r"feature_extractor\.conv_layers\.(\d+)\.conv\.weight")
    wide = _numbered(weights, r"encoder\.layers\.(\d+)\.feed_forward\.intermediate_dense\.weight")
    place = weights.get("encoder.pos_conv_embed.conv.weight_v")
    if not convs or not wide or place is None:
        raise InputError(f"{source}: expected the weights of HuBERT named {SPEECH}*, found none.")
    hidden = len(place)
    norms = [name for name in weights if re.search(r"conv_layers\.1\.layer_norm", name)]
    return {
        "model_type": "hubert",
        "hidden_size": hidden,
        "num_hidden_layers": len(wide),
        "num_attention_heads": max(1, hidden // HEAD),
        "intermediate_size": len(wide[0]),
        "conv_dim": [len(each) for each in convs],
        "conv_kernel": [each.shape[-1] for each in convs],
        "feat_extract_norm": "layer" if norms else "group",
        "num_conv_pos_embeddings": place.shape[-1],
        "num_conv_pos_embedding_groups": hidden // place.shape[1],
    }


def _numbered(weights: dict[str, Tensor], pattern: str) -> list[Tensor]:
    """Weights of layers that a pattern numbers, in order."""
    found = {
        int(match[1]): value
        for name, value in weights.items()
        if (match := re.fullmatch(pattern, name))
    }
    return [found[index] for index in sorted(found)]
