"""The causal transformers whose anatomy is known: kdlight's own, and those of transformers."""

import math
from typing import Any

from torch import nn

from kdlight.core.spec import rebuilt
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.surgery.anatomy import Anatomy, Axis, Block, Sizes, axes

GATED = ("llama", "mistral", "qwen2", "qwen3")
"""Kinds of transformers with Llama's names: gated perceptrons, RMS norms, shared keys."""


def anatomy_of(network: nn.Module) -> Anatomy:
    """Where the units of a network lie.

    Raises:
        InputError: Its anatomy is not known, or adapters hold part of its weights.
    """
    if isinstance(network, TokenTransformer):
        return _own(network)
    if isinstance(network, CausalLM):
        if network.rank:
            raise InputError(
                "network: expected whole weights, found adapters; `export --to transformers` "
                "merges them."
            )
        kind = network._init_args["config"].get("model_type")
        if kind in GATED:
            return _gated(network)
        if kind == "gpt2":
            return _gpt2(network)
        known = ", ".join((*GATED, "gpt2"))
        raise InputError(f"network: expected one of {known} of transformers, found {kind!r}.")
    raise InputError(f"network: expected a causal transformer, found {type(network).__name__}.")


def _own(network: TokenTransformer) -> Anatomy:
    if network.component_embedding is not None:
        raise InputError("network: expected no mixture of components, found one.")
    blocks, norms = [], []
    readers, writers = ["embedding.weight", "head.weight"], []
    for index in range(len(network.blocks)):
        at = f"blocks.{index}"
        qkv, out, up, down = f"{at}.qkv", f"{at}.project", f"{at}.mlp.0", f"{at}.mlp.2"
        blocks.append(
            Block(
                at,
                behind_heads=out,
                behind_mlp=down,
                mlp=axes(0, f"{up}.weight", f"{up}.bias") + axes(1, f"{down}.weight"),
                heads=axes(0, f"{qkv}.weight", parts=3) + axes(1, f"{out}.weight"),
            )
        )
        readers += [f"{qkv}.weight", f"{up}.weight"]
        writers += [f"{out}.weight", f"{down}.weight", f"{down}.bias"]
        norms += [f"{at}.attention_norm", f"{at}.mlp_norm"]
    norms.append("norm")
    writers += _both(*norms)
    said, head_width = network._init_args, network.head_width
    hidden = network.state_dict()[blocks[0].mlp[0].tensor].shape[0]

    def smaller(to: Sizes, layers: list[int]) -> nn.Module:
        ratio = to.mlp / to.width
        if int(ratio * to.width) < to.mlp:
            ratio = math.nextafter(ratio, math.inf)
        return rebuilt(
            network,
            width=to.width,
            depth=to.layers,
            heads=to.heads,
            head_width=head_width,
            ratio=ratio,
        )

    return Anatomy(
        Sizes(len(blocks), said["width"], hidden, said["heads"]),
        groups=said["heads"],
        head_width=head_width,
        blocks=tuple(blocks),
        width=axes(0, *writers) + axes(1, *readers),
        norms=tuple(norms),
        smaller=smaller,
    )


def _gated(network: CausalLM) -> Anatomy:
    said: Any = network.model.config
    blocks, norms = [], []
    readers, writers = ["model.model.embed_tokens.weight", "model.lm_head.weight"], []
    for index in range(said.num_hidden_layers):
        at = f"model.model.layers.{index}"
        gate, up, down = (f"{at}.mlp.{each}_proj" for each in ("gate", "up", "down"))
        query, key, value, out = (f"{at}.self_attn.{each}_proj" for each in "qkvo")
        blocks.append(
            Block(
                at,
                behind_heads=out,
                behind_mlp=down,
                mlp=_there(network, axes(0, *_both(gate, up)) + axes(1, f"{down}.weight")),
                heads=_there(network, axes(0, *_both(query)) + axes(1, f"{out}.weight")),
                groups=_there(network, axes(0, *_both(key, value))),
            )
        )
        readers += [f"{name}.weight" for name in (query, key, value, gate, up)]
        writers += _both(out, down)
        norms += [f"{at}.input_layernorm", f"{at}.post_attention_layernorm"]
    norms.append("model.model.norm")
    writers += [f"{norm}.weight" for norm in norms]
    heads, groups = said.num_attention_heads, said.num_key_value_heads
    head_width = getattr(said, "head_dim", None) or said.hidden_size // heads

    def smaller(to: Sizes, layers: list[int]) -> nn.Module:
        changed = {
            "num_hidden_layers": to.layers,
            "hidden_size": to.width,
            "intermediate_size": to.mlp,
            "num_attention_heads": to.heads,
            "num_key_value_heads": to.heads * groups // heads,
            "head_dim": head_width,
        }
        if kinds := getattr(said, "layer_types", None):
            changed["layer_types"] = [kinds[layer] for layer in layers]
        return rebuilt(network, config=network._init_args["config"] | changed)

    return Anatomy(
        Sizes(said.num_hidden_layers, said.hidden_size, said.intermediate_size, heads),
        groups=groups,
        head_width=head_width,
        blocks=tuple(blocks),
        width=_there(network, axes(0, *writers) + axes(1, *readers)),
        norms=tuple(norms),
        smaller=smaller,
    )


def _gpt2(network: CausalLM) -> Anatomy:
    said: Any = network.model.config
    top = "model.transformer"
    blocks, norms = [], []
    columns = [f"{top}.wte.weight", f"{top}.wpe.weight", "model.lm_head.weight"]
    rows: list[str] = []
    for index in range(said.n_layer):
        at = f"{top}.h.{index}"
        qkv, out = f"{at}.attn.c_attn", f"{at}.attn.c_proj"
        up, down = f"{at}.mlp.c_fc", f"{at}.mlp.c_proj"
        # Its matrices are (inputs, outputs).
        heads = (Axis(f"{qkv}.weight", 1, 3), Axis(f"{qkv}.bias", 0, 3), Axis(f"{out}.weight", 0))
        mlp = (Axis(f"{up}.weight", 1), Axis(f"{up}.bias", 0), Axis(f"{down}.weight", 0))
        blocks.append(Block(at, behind_heads=out, behind_mlp=down, mlp=mlp, heads=heads))
        columns += [f"{out}.weight", f"{down}.weight"]
        rows += [f"{qkv}.weight", f"{up}.weight", f"{out}.bias", f"{down}.bias"]
        norms += [f"{at}.ln_1", f"{at}.ln_2"]
    norms.append(f"{top}.ln_f")
    rows += _both(*norms)

    def smaller(to: Sizes, layers: list[int]) -> nn.Module:
        changed = {"n_layer": to.layers, "n_embd": to.width, "n_head": to.heads, "n_inner": to.mlp}
        return rebuilt(network, config=network._init_args["config"] | changed)

    return Anatomy(
        Sizes(said.n_layer, said.n_embd, said.n_inner or 4 * said.n_embd, said.n_head),
        groups=said.n_head,
        head_width=said.n_embd // said.n_head,
        blocks=tuple(blocks),
        width=axes(0, *rows) + axes(1, *columns),
        norms=tuple(norms),
        smaller=smaller,
        square=True,
    )


def _both(*modules: str) -> list[str]:
    """Weights and biases."""
    return [f"{module}.{each}" for module in modules for each in ("weight", "bias")]


def _there(network: nn.Module, named: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Those of tensors that a network has: biases are a matter of its configuration."""
    names = network.state_dict().keys()
    return tuple(axis for axis in named if axis.tensor in names)
