"""Tiny random transformers of every kind that can be cut, and what is planted in them."""

import torch
from torch import nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.surgery.anatomy import Anatomy, Axis
from kdlight.surgery.families import anatomy_of

V, LENGTH = 11, 6
SHAPE = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
CONFIGS = {
    "llama": SHAPE | {"model_type": "llama", "tie_word_embeddings": True},
    "llama_bias": SHAPE | {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": SHAPE | {"model_type": "mistral"},
    "qwen2": SHAPE | {"model_type": "qwen2"},
    "qwen3": SHAPE | {"model_type": "qwen3", "head_dim": 6},
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": V,
        "n_embd": 16,
        "n_head": 4,
        "n_layer": 3,
        "n_inner": 12,
        "n_positions": 32,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
}
KINDS = ["own", *CONFIGS]


def model_of(kind: str, seed: int = 0) -> AutoregressiveModel:
    """A model whose weights are all random, norms and biases included, so that none hides."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module
        if kind == "own":
            network = TokenTransformer(V, width=16, depth=3, heads=4, causal=True, ratio=0.75)
        else:
            network = CausalLM(CONFIGS[kind], V)
        for name, weight in network.named_parameters():
            norm = "norm" in name or "ln_" in name
            nn.init.normal_(weight, 1.0 if norm and "bias" not in name else 0.0, 0.3)
    return AutoregressiveModel(network, V, LENGTH, beginning=0).double().eval()


def batches(count: int = 12, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    tokens = torch.randint(0, V, (count, LENGTH), generator=torch.Generator().manual_seed(5))
    real = torch.ones_like(tokens, dtype=torch.bool)
    return list(zip(tokens.split(size), real.split(size), strict=True))


def put(network: nn.Module, axes: tuple[Axis, ...], units: list[int], size: int = 1) -> None:
    """Weights of units become 0."""
    state = network.state_dict()
    for axis in axes:
        parts = state[axis.tensor].unflatten(axis.dim, (axis.parts, -1, size))
        parts.index_fill_(axis.dim + 1, torch.tensor(units), 0.0)  # a view


def plant_channels(network: nn.Module, anatomy: Anatomy, units: list[int]) -> None:
    """Channels that hold the mean of the others everywhere, which norms make 0; or 0 itself."""
    state = network.state_dict()
    centred = any(isinstance(network.get_submodule(name), nn.LayerNorm) for name in anatomy.norms)
    norms = {f"{name}.{each}" for name in anatomy.norms for each in ("weight", "bias")}
    others = torch.tensor([each for each in range(anatomy.sizes.width) if each not in units])
    for axis in anatomy.width:
        tensor = state[axis.tensor]
        if axis.tensor in norms:
            if axis.tensor.endswith("bias"):
                tensor[units] = 0
            continue
        mean = tensor.index_select(axis.dim, others).mean(axis.dim, keepdim=True)
        for unit in units:
            tensor.narrow(axis.dim, unit, 1).copy_(mean if centred else torch.zeros_like(mean))


def without_eps(model: AutoregressiveModel) -> AutoregressiveModel:
    """The model with norms that add nothing to a variance, where fewer channels weigh as much."""
    for name in anatomy_of(model.network).norms:
        norm = model.network.get_submodule(name)
        setattr(norm, "eps" if isinstance(norm, nn.LayerNorm) else "variance_epsilon", 1e-14)
    return model
