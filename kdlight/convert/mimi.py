"""Mimi in kyutai's own files, as Mimi of transformers."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.convert.weights import tensors_of
from kdlight.errors import InputError
from kdlight.storage.files import is_there, load_tensors, load_weights, read_json

CONFIG = "mimi_config.json"
SETTINGS = {
    "sampling_rate": ("sample_rate",),
    "hidden_size": ("seanet", "dimension"),
    "upsample_groups": ("seanet", "dimension"),
    "num_filters": ("seanet", "n_filters"),
    "num_residual_layers": ("seanet", "n_residual_layers"),
    "upsampling_ratios": ("seanet", "ratios"),
    "kernel_size": ("seanet", "kernel_size"),
    "residual_kernel_size": ("seanet", "residual_kernel_size"),
    "last_kernel_size": ("seanet", "last_kernel_size"),
    "dilation_growth_rate": ("seanet", "dilation_base"),
    "compress": ("seanet", "compress"),
    "codebook_size": ("quantizer", "bins"),
    "codebook_dim": ("quantizer", "dimension"),
    "vector_quantization_hidden_dimension": ("quantizer", "dimension"),
    "num_quantizers": ("quantizer", "n_q"),
    "num_hidden_layers": ("transformer", "num_layers"),
    "num_attention_heads": ("transformer", "num_heads"),
    "num_key_value_heads": ("transformer", "num_heads"),
    "intermediate_size": ("transformer", "dim_feedforward"),
    "sliding_window": ("transformer", "context"),
}
"""What transformers calls a setting, and where kyutai's file has it."""
LAYERS = (
    (r"(\.conv)+\.weight$", ".conv.weight"),
    (r"(\.conv)+\.bias$", ".conv.bias"),
    (r"(\.convtr)+\.(?=weight$|bias$)", ".conv."),
    (r"^(en|de)coder\.model\.", r"\1coder.\1coder_seanet.layers."),
    (r"^(en|de)coder_transformer\.transformer\.", r"\1coder.\1coder_transformer."),
    (r"^downsample\.", "encoder.downsample."),
    (r"^upsample\.", "decoder.upsample."),
    (r"^quantizer\.rvq_first\.(vq\.)?", "quantizer.semantic_residual_vector_quantizer."),
    (r"^quantizer\.rvq_rest\.(vq\.)?", "quantizer.acoustic_residual_vector_quantizer."),
    (r"\._codebook\._?", ".codebook."),
    (r"\.embedding_sum$", ".embed_sum"),
    (r"\.linear([12])\.", r".mlp.fc\1."),
    (r"\.out_projs?\.(0\.)?", ".o_proj."),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
    (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
    (r"\.layer_scale_2\.", ".mlp_layer_scale."),
)
"""Patterns of kyutai's names and what stands there in transformers'."""
JOINT = re.compile(r"(.*\.self_attn\.)(in_proj_weight|in_proj\.weight|in_projs\.0\.weight)")


def convert_mimi(path: Path) -> TransformersCodec:
    """Mimi (arXiv:2410.00037) with the codes and audio of ``moshi``, for whole frames of audio.

    Audio whose last frame is not full ends as in transformers, whose layers fill it up; ``moshi``
    appends silence.

    Args:
        path: ``tokenizer-….safetensors`` as kyutai published it. A ``mimi_config.json`` beside it,
            as ``moshi`` writes, tells the settings; without one they are the published model's.

    Raises:
        InputError: The file is another model's.
    """
    beside = path.parent / CONFIG
    config = _config(read_json(beside), str(beside)) if is_there(beside) else {}
    codec = TransformersCodec({"model_type": "mimi"} | config)
    heads = codec.model.config.num_attention_heads
    weights: dict[str, Tensor] = {}
    for name, value in tensors_of(load_tensors(path), str(path)).items():
        for old, new in LAYERS:
            name = re.sub(old, new, name)
        joint = JOINT.fullmatch(name)
        if joint is None:
            weights[name] = value
            continue
        if value.ndim != 2 or len(value) % (6 * heads):
            raise InputError(
                f"{path}: {name}: expected queries, keys and values of {heads} heads, "
                f"found the shape {tuple(value.shape)}."
            )
        query, key, each = value.chunk(3)
        weights[f"{joint[1]}q_proj.weight"] = _halves(query, heads)
        weights[f"{joint[1]}k_proj.weight"] = _halves(key, heads)
        weights[f"{joint[1]}v_proj.weight"] = each
    load_weights(codec.model, weights, str(path))
    return codec.eval()


def _config(found: Any, source: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, place in SETTINGS.items():
        value = found
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, (int, list)):
            raise InputError(
                f"{source}: {'.'.join(place)}: expected a setting of Mimi, found {value!r}."
            )
        config[name] = value
    return config


def _halves(rows: Tensor, heads: int) -> Tensor:
    """Rows (D, D) of a projection in the order of transformers' rotary embedding.

    It turns channel i of a head together with channel i + half, kyutai's 2 i with 2 i + 1.
    """
    channels = len(rows) // heads
    return rows.view(heads, channels // 2, 2, -1).transpose(1, 2).reshape(rows.shape)
