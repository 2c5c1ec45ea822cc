"""State dicts under the names of OpenAI's U-Net, drawn by the rule of the stored outputs."""

from pathlib import Path

import torch
from torch import Tensor

from tests.networks.edm.recipe import drawn

WIDTH, EMBEDDING = 128, 512


def _residual(name: str, inputs: int, scale_shift: bool) -> dict[str, tuple[int, ...]]:
    shapes = {
        "in_layers.0.weight": (inputs,),
        "in_layers.2.weight": (WIDTH, inputs, 3, 3),
        "emb_layers.1.weight": ((1 + scale_shift) * WIDTH, EMBEDDING),
        "out_layers.0.weight": (WIDTH,),
        "out_layers.3.weight": (WIDTH, WIDTH, 3, 3),
    }
    if inputs != WIDTH:
        shapes["skip_connection.weight"] = (WIDTH, inputs, 1, 1)
    return {f"{name}.{key}": shape for key, shape in shapes.items()}


def _attention(name: str, plane: bool) -> dict[str, tuple[int, ...]]:
    one = (1, 1) if plane else (1,)
    return {
        f"{name}.norm.weight": (WIDTH,),
        f"{name}.qkv.weight": (3 * WIDTH, WIDTH, *one),
        f"{name}.proj_out.weight": (WIDTH, WIDTH, *one),
    }


def state(scale_shift: bool, classes: int, plane: bool, outputs: int = 3) -> dict[str, Tensor]:
    """Two resolutions of one block each, attention at the lower."""
    shapes: dict[str, tuple[int, ...]] = {
        "time_embed.0.weight": (EMBEDDING, WIDTH),
        "time_embed.2.weight": (EMBEDDING, EMBEDDING),
        "input_blocks.0.0.weight": (WIDTH, 3, 3, 3),
        **_attention("input_blocks.3.1", plane),
        **_attention("middle_block.1", plane),
        **_attention("output_blocks.0.1", plane),
        **_attention("output_blocks.1.1", plane),
        "out.0.weight": (WIDTH,),
        "out.2.weight": (outputs, WIDTH, 3, 3),
    }
    for name in ("input_blocks.1.0", "input_blocks.2.0", "input_blocks.3.0"):
        shapes |= _residual(name, WIDTH, scale_shift)
    for name in ("middle_block.0", "middle_block.2", "output_blocks.1.2"):
        shapes |= _residual(name, WIDTH, scale_shift)
    for index in range(4):
        shapes |= _residual(f"output_blocks.{index}.0", 2 * WIDTH, scale_shift)
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}
    if classes:
        shapes["label_emb.weight"] = (classes, EMBEDDING)
    return {name: drawn(name, shape) for name, shape in (shapes | biases).items()}


def write(path: Path, *arguments: object, **settings: object) -> Path:
    torch.save(state(*arguments, **settings), path)
    return path
