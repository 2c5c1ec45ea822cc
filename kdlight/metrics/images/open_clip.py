"""Weights of open_clip by the names that transformers gives a CLIP."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.files import load_tensors

PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
"""Of a block of either tower."""
SINGLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
TURNED = ("visual.proj", "text_projection")
"""Matrices that open_clip multiplies from the other side."""
BLOCKS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def read_open_clip(path: Path) -> dict[str, Tensor]:
    """A CLIP of open_clip with two transformers, such as HPS v2's, as ``CLIPModel`` names it.

    Args:
        path: The file, a state dict or a mapping with one as ``state_dict``, read without running
            anything of it.

    Raises:
        InputError: The file is missing or damaged, or holds another network.
    """
    content = load_tensors(path)
    content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(
        isinstance(each, Tensor) for each in content.values()
    ):
        raise InputError(f"{path}: expected weights by name, found something else.")
    found: dict[str, Tensor] = {}
    for name, tensor in content.items():
        found |= _renamed(path, str(name).removeprefix("module."), tensor.float())
    return found


def _renamed(path: Path, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in SINGLE:
        return {SINGLE[name]: tensor.T if name in TURNED else tensor}
    stem, _, kind = name.rpartition(".")
    if stem in NORMS:
        return {f"{NORMS[stem]}.{kind}": tensor}
    for start, new in BLOCKS.items():
        if not name.startswith(start):
            continue
        number, _, rest = name.removeprefix(start).partition(".")
        if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = rest.removeprefix("attn.in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            return {f"{new}{number}.self_attn.{each}_proj.{kind}": part for each, part in parts}
        part, _, kind = rest.rpartition(".")
        if part in PARTS:
            return {f"{new}{number}.{PARTS[part]}.{kind}": tensor}
    raise InputError(f"{path}: expected the weights of a CLIP of open_clip, found {name}.")
