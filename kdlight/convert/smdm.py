"""SMDM: a Llama that sees both sides, in the naming of Lit-GPT."""

import re
from pathlib import Path

from torch import Tensor

from kdlight.convert.weights import numbered, tensors_of
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import TextGenerator, with_text
from kdlight.errors import InputError
from kdlight.networks.text.bidirectional import open_to_both_sides
from kdlight.storage.files import load_tensors, load_weights

LENGTH = 2048
NAMES = (
    (r"^transformer\.wte\.", "layers.embed_tokens."),
    (r"^transformer\.ln_f\.", "layers.norm."),
    (r"^lm_head\.", "head."),
    (r"^transformer\.h\.(\d+)\.norm_1\.", r"layers.layers.\1.input_layernorm."),
    (r"^transformer\.h\.(\d+)\.norm_2\.", r"layers.layers.\1.post_attention_layernorm."),
    (r"^transformer\.h\.(\d+)\.attn\.proj\.", r"layers.layers.\1.self_attn.o_proj."),
    (r"^transformer\.h\.(\d+)\.mlp\.swiglu\.w1\.", r"layers.layers.\1.mlp.gate_proj."),
    (r"^transformer\.h\.(\d+)\.mlp\.swiglu\.w2\.", r"layers.layers.\1.mlp.up_proj."),
    (r"^transformer\.h\.(\d+)\.mlp\.swiglu\.w3\.", r"layers.layers.\1.mlp.down_proj."),
)
"""Patterns of the authors' names and what stands there in transformers'."""
JOINT = re.compile(r"^transformer\.h\.(\d+)\.attn\.attn\.weight$")


def convert_smdm(
    path: Path, tokenizer: Path | None = None, heads: int | None = None
) -> TokenGenerator | TextGenerator:
    """A masked diffusion model of SMDM's authors (arXiv:2410.18514) with the same logits.

    Their program rounds the angles of its rotary positions to bfloat16; here they are float32.

    Args:
        path: A ``.safetensors`` file of theirs, or a PyTorch checkpoint of tensors.
        tokenizer: ``tokenizer.json``, or folder of transformers, of the text (TinyLlama's);
            without one it writes numbers.
        heads: Attention heads, which the weights do not tell; by default as many as the
            published model of this width has.

    Raises:
        InputError: The file is another model's, or ``heads`` does not divide its width.
    """
    source = str(path)
    found = load_tensors(path)
    given = {name: value.float() for name, value in tensors_of(_inner(found), source).items()}
    embedding = given.get("transformer.wte.weight")
    up = given.get("transformer.h.0.mlp.swiglu.w1.weight")
    if embedding is None or up is None or embedding.ndim != 2 or up.ndim != 2:
        raise InputError(
            f"{source}: expected weights named transformer.wte.* and transformer.h.*, found none."
        )
    vocabulary, width = len(embedding) - 1, embedding.shape[1]
    heads = heads or _published_heads(width, len(up))
    if width % (2 * heads):
        raise InputError(f"--heads: expected half a divisor of {width}, found {heads}.")
    network = open_to_both_sides(
        width, len(up), numbered(given, "transformer.h"), heads, LENGTH, vocabulary
    )
    weights: dict[str, Tensor] = {}
    for name, value in given.items():
        if match := JOINT.match(name):
            layer = f"layers.layers.{match[1]}.self_attn"
            weights |= _parted(value, heads, layer, f"{source}: {name}")
            continue
        for old, new in NAMES:
            name = re.sub(old, new, name)
        weights[name] = value
    load_weights(network, weights, source)
    denoiser = MaskedDenoiser(network, vocabulary, LENGTH)
    return with_text(TokenGenerator(denoiser, "ancestral"), tokenizer)


def _inner(found: dict[str, object]) -> object:
    """Weights of a training's checkpoint, or of a file of nothing else."""
    return found.get("model", found)


def _published_heads(width: int, hidden: int) -> int:
    if hidden * 2 == width * 5:
        return width // 80
    return width // (64 if width <= 1024 else 128) or 1


def _parted(joint: Tensor, heads: int, layer: str, source: str) -> dict[str, Tensor]:
    """Queries, keys and values, which lie head by head side by side, (3 W, W) -> 3 of (W, W)."""
    if joint.ndim != 2 or len(joint) != 3 * joint.shape[1]:
        raise InputError(
            f"{source}: expected as many keys and values as queries, found {list(joint.shape)}."
        )
    by_head = joint.reshape(heads, 3, -1, joint.shape[1])
    return {
        f"{layer}.{name}_proj.weight": by_head[:, index].flatten(0, 1).clone()
        for index, name in enumerate("qkv")
    }
