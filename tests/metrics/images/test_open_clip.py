"""A CLIP of open_clip, read into transformers, embeds as the original did."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from kdlight.errors import InputError
from kdlight.metrics.images.open_clip import read_open_clip
from tests.networks.edm.recipe import drawn

WIDTH, DEPTH = 8, 2
# Of open_clip 3.3.0 on the weights below.
PICTURES = [
    [-0.5244559, -0.0058543, -0.8315082, -0.1830460],
    [-0.7439340, -0.1840849, -0.4831035, 0.4234219],
]
TEXTS = [
    [0.3811007, -0.5288552, 0.6824185, -0.3307255],
    [0.5074544, -0.4567271, 0.6993312, -0.2117223],
]


def released(path: Path) -> Path:
    """Weights under open_clip's names, drawn by the rule of the networks' tests."""
    shapes = {"positional_embedding": (6, 8), "text_projection": (8, 4), "logit_scale": ()}
    shapes |= {"token_embedding.weight": (54, 8), "visual.conv1.weight": (8, 3, 4, 4)}
    shapes |= {"visual.class_embedding": (8,), "visual.positional_embedding": (5, 8)}
    shapes["visual.proj"] = (8, 4)
    layers = {f"visual.ln_{each}": (WIDTH,) for each in ("pre", "post")} | {"ln_final": (WIDTH,)}
    for tower in ("visual.transformer", "transformer"):
        for index in range(DEPTH):
            block = f"{tower}.resblocks.{index}"
            layers |= {f"{block}.ln_{each}": (WIDTH,) for each in (1, 2)}
            layers |= {f"{block}.attn.out_proj": (8, 8), f"{block}.mlp.c_fc": (32, 8)}
            layers[f"{block}.mlp.c_proj"] = (8, 32)
            shapes |= {f"{block}.attn.in_proj_weight": (24, 8), f"{block}.attn.in_proj_bias": (24,)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    torch.save({"state_dict": {n: drawn(n, shape) for n, shape in shapes.items()}}, path)
    return path


def clip() -> CLIPModel:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": DEPTH}
    sizes |= {"num_attention_heads": 2, "hidden_act": "gelu"}
    text = {"vocab_size": 54, "max_position_embeddings": 6, "eos_token_id": 53}
    text |= {"bos_token_id": 0, "pad_token_id": 1} | sizes
    vision = {"image_size": 8, "patch_size": 4} | sizes
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)).eval()


@torch.no_grad()
def test_embeddings_are_open_clips(tmp_path: Path) -> None:
    model = clip()
    model.load_state_dict(read_open_clip(released(tmp_path / "clip.pt")))
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 8, 8))).float()
    texts = torch.tensor([[0, 5, 30, 53, 0, 0], [0, 7, 8, 9, 33, 53]])
    found = model(input_ids=texts, pixel_values=pictures)
    for embeds, expected in ((found.image_embeds, PICTURES), (found.text_embeds, TEXTS)):
        torch.testing.assert_close(embeds, torch.tensor(expected), rtol=0, atol=2e-6)


def test_another_network_is_named(tmp_path: Path) -> None:
    torch.save({"visual.stem.weight": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: expected the weights of a CLIP .* visual\.stem"):
        read_open_clip(tmp_path / "a.pt")
    found: dict[str, Tensor | int] = {"state_dict": 3}
    torch.save(found, tmp_path / "b.pt")
    with pytest.raises(InputError, match=r"b\.pt: expected weights by name"):
        read_open_clip(tmp_path / "b.pt")
