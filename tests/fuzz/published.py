"""Files and folders of other programs, as small as their formats allow."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from tests.codec.foreign.models import MAKERS
from tests.convert.originals import encodec, speechtokenizer
from tests.modules.diffusion.latent import write_pipeline
from tests.teachers.published import openai
from tests.teachers.published.files import song_file
from tests.teachers.published.test_edm2_files import edm2_file


def make(root: Path) -> None:
    """Write them all."""
    torch.manual_seed(0)
    torch.save(encodec().state_dict(), root / "encodec.th")
    torch.save(speechtokenizer().state_dict(), root / "speechtokenizer.pt")
    for kind, maker in MAKERS.items():
        maker().save_pretrained(root / kind)
    song_file(root / "edm.pkl")
    edm2_file(root / "edm2.pkl")
    openai.write(root / "adm.pt", True, 0, True)
    _pipeline(root / "diffusers")
    write_pipeline(root / "latent")
    _vision(root / "vision")
    _clip(root / "clip")
    _codes(root / "codes")


def _pipeline(folder: Path) -> None:
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4,
    )  # fmt: skip
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    DDIMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder)


SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def _vision(folder: Path) -> None:
    ViTModel(ViTConfig(image_size=8, patch_size=4, **SIZES)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder)


def _clip(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=6)
    text = {"vocab_size": len(words), "max_position_embeddings": 6, **SIZES}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"image_size": 8, "patch_size": 4, **SIZES}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def _codes(folder: Path) -> None:
    folder.mkdir()
    codes = torch.randint(8, (2, 5))
    np.save(folder / "a.npy", codes.numpy())
    np.savez(folder / "b.npz", codes=codes.numpy())
    torch.save(codes, folder / "c.pt")
    lines = [{"id": name, "codes": codes.tolist()} for name in "xy"]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
