"""MDLM: its published network does not look at the time, so that all that adapts is constant."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.convert.weights import numbered, tensors_of
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import TextGenerator, with_text
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import load_tensors, load_weights, read_json

PREFIX = "backbone."
FREQUENCIES = 256
"""Numbers that the authors' network embeds a time in."""


def convert_mdlm(path: Path, tokenizer: Path | None = None) -> TokenGenerator | TextGenerator:
    """A masked diffusion model of its authors (arXiv:2406.07524) with the same logits.

    Their network modulates its norms and branches by the time, which is 0 throughout in the
    published models (``time_conditioning: false``). What the modulation gives at 0 is multiplied
    into the weights, and a plain :class:`TokenTransformer` is left. The mask is their last token.

    Args:
        path: Folder with ``config.json`` and ``model.safetensors``.
        tokenizer: ``tokenizer.json``, or folder of transformers, of the text (``gpt2`` for
            OpenWebText); without one it writes numbers.

    Raises:
        InputError: The folder is another model's, or its network does look at the time.
    """
    config = read_json(path / "config.json")
    source = str(path)
    if not isinstance(config, dict) or config.get("model_type") != "mdlm":
        raise InputError(f"{source}: config.json: expected model_type mdlm.")
    if config.get("time_conditioning") is not False:
        raise InputError(
            f"{source}: config.json: expected time_conditioning false, as published, found "
            f"{config.get('time_conditioning')}."
        )
    found = tensors_of(load_tensors(path / "model.safetensors"), source)
    given = {
        name.removeprefix(PREFIX): value.float()
        for name, value in found.items()
        if name.startswith(PREFIX)
    }
    weights = _folded(given, source)
    vocabulary, width = len(weights["head.weight"]), weights["head.weight"].shape[1]
    network = TokenTransformer(
        vocabulary,
        width,
        depth=numbered(given, "blocks"),
        heads=_whole_number(config, "n_heads", source),
        ratio=len(weights["blocks.0.mlp.0.weight"]) / width,
        dropout=_share(config, "dropout", source),
    )
    load_weights(network, weights, source)
    length = _whole_number(config, "model_length", source)
    denoiser = MaskedDenoiser(network, vocabulary, length)
    return with_text(TokenGenerator(denoiser, "ancestral"), tokenizer)


def _whole_number(config: dict[str, Any], key: str, source: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{source}: config.json: {key}: expected a whole number, found {value}.")
    return value


def _share(config: dict[str, Any], key: str, source: str) -> float:
    value = config.get(key, 0.0)
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"{source}: config.json: {key}: expected a share, found {value}.")
    return float(value)


def _folded(given: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Weights of a plain transformer.

    Raises:
        InputError: A weight is missing.
    """
    try:
        return _plain(given)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{source}: expected the weights of MDLM's network ({reason}).") from None


def _plain(given: dict[str, Tensor]) -> dict[str, Tensor]:
    # The time 0: cosines are 1, sines 0.
    time = torch.zeros(FREQUENCIES, dtype=torch.float64)
    time[: FREQUENCIES // 2] = 1.0
    double = {name: value.double() for name, value in given.items()}

    def affine(name: str, value: Tensor) -> Tensor:
        return double[f"{name}.weight"] @ value + double[f"{name}.bias"]

    silu = torch.nn.functional.silu
    condition = silu(affine("sigma_map.mlp.2", silu(affine("sigma_map.mlp.0", time))))
    weights = {"embedding.weight": double["vocab_embed.embedding"]}
    for index in range(numbered(given, "blocks")):
        old = new = f"blocks.{index}"
        parts = affine(f"{old}.adaLN_modulation", condition).chunk(6)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts
        narrow = f"{old}.mlp.2"
        weights |= {
            f"{new}.attention_norm.weight": double[f"{old}.norm1.weight"] * (1 + scale),
            f"{new}.attention_norm.bias": shift,
            f"{new}.qkv.weight": double[f"{old}.attn_qkv.weight"],
            f"{new}.project.weight": gate[:, None] * double[f"{old}.attn_out.weight"],
            f"{new}.mlp_norm.weight": double[f"{old}.norm2.weight"] * (1 + mlp_scale),
            f"{new}.mlp_norm.bias": mlp_shift,
            f"{new}.mlp.0.weight": double[f"{old}.mlp.0.weight"],
            f"{new}.mlp.0.bias": double[f"{old}.mlp.0.bias"],
            f"{new}.mlp.2.weight": mlp_gate[:, None] * double[f"{narrow}.weight"],
            f"{new}.mlp.2.bias": mlp_gate * double[f"{narrow}.bias"],
        }
    shift, scale = affine("output_layer.adaLN_modulation", condition).chunk(2)
    weights |= {
        "norm.weight": double["output_layer.norm_final.weight"] * (1 + scale),
        "norm.bias": shift,
        # The last row is the mask's, which is never predicted.
        "head.weight": double["output_layer.linear.weight"][:-1],
        "head.bias": double["output_layer.linear.bias"][:-1],
    }
    return {name: value.float() for name, value in weights.items()}
