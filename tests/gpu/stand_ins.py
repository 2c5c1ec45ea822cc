"""What recipes read and nobody has here: speech, pictures with captions, random pipelines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import soundfile
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.gpu.sdxl import SDXL

SPEAKERS = 24
"""More than any recipe holds out."""
PICTURES = 64
SD15: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""The network of stable-diffusion-v1-5: 860 million weights."""
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def speech(folder: Path) -> str:
    """A folder of speakers that hum ten seconds of 16 kHz, with a transcript each."""
    generator = np.random.default_rng(0)
    seconds = np.arange(160_000) / 16_000
    for speaker in range(SPEAKERS):
        path = folder / f"speaker{speaker}" / "1.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * (90 + 10 * speaker) * seconds)
        loud = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * seconds)
        noise = 0.1 * generator.standard_normal(len(seconds))
        soundfile.write(path, 0.3 * loud * (tone + noise), 16_000)
        path.with_suffix(".txt").write_text("a word and another word")
    return str(folder)


def pictures(folder: Path) -> str:
    """A folder of small random pictures, a caption beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for index in range(PICTURES):
        pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"picture {index}")
    return str(folder)


def prompts(folder: Path) -> str:
    """A text file with a prompt a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prompts.txt"
    path.write_text("\n".join(f"picture {index}" for index in range(PICTURES)))
    return str(path)


def _autoencoder(size: int) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=size,
    )


def _tokenizer() -> CLIPTokenizer:
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def _text(kind: Any, width: int, layers: int, act: str) -> Any:
    return kind(
        CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            projection_dim=width,
            hidden_act=act,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def stable_diffusion(folder: Path) -> str:
    """Stable Diffusion 1.5 in its real shape."""
    diffusers.StableDiffusionPipeline(
        vae=_autoencoder(512),
        text_encoder=_text(CLIPTextModel, 768, 12, "quick_gelu"),
        tokenizer=_tokenizer(),
        unet=diffusers.UNet2DConditionModel(**SD15),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, **BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return str(folder)


def stable_diffusion_xl(folder: Path) -> str:
    """Stable Diffusion XL in its real shape."""
    diffusers.StableDiffusionXLPipeline(
        vae=_autoencoder(1024),
        text_encoder=_text(CLIPTextModel, 768, 12, "quick_gelu"),
        text_encoder_2=_text(CLIPTextModelWithProjection, 1280, 32, "gelu"),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=diffusers.UNet2DConditionModel(**SDXL),
        scheduler=diffusers.EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    ).save_pretrained(folder)
    return str(folder)


PIPELINES: dict[str, Callable[[Path], str]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": stable_diffusion,
    "stabilityai/stable-diffusion-xl-base-1.0": stable_diffusion_xl,
}
"""By id on the hub."""
FILES: dict[tuple[str, str], Callable[[Path], str]] = {
    ("SpeechFolderDataModule", "data_dir"): speech,
    ("CaptionedLatentsDataModule", "data_dir"): pictures,
    ("PromptsDataModule", "prompts"): prompts,
}
"""By data module and argument."""
OF_LIBRISPEECH = ("training_subsets", "heldout_subsets", "download")


def replaced(config: Any, folder: Path) -> Any:
    """A configuration in which all of that is replaced, written below ``folder`` once.

    Args:
        config: What YAML holds.
        folder: Where it lies; kept for the next recipe.
    """
    if isinstance(config, list):
        return [replaced(each, folder) for each in config]
    if not isinstance(config, dict):
        return config
    made = {key: replaced(value, folder) for key, value in config.items()}
    kind = str(made.get("class_path", "")).rpartition(".")[2]
    given = made.get("init_args")
    if kind == "LibriSpeechDataModule":
        made["class_path"] = "datamodules.speech.speech_folder.SpeechFolderDataModule"
        given = {key: value for key, value in given.items() if key not in OF_LIBRISPEECH}
        made["init_args"] = {**given, "data_dir": "", "heldout": 4}
        return replaced(made, folder)
    for (module, argument), write in FILES.items():
        if kind == module:
            made["init_args"][argument] = _once(write, folder)
    if (name := made.get("path_or_id")) in PIPELINES:
        made["path_or_id"] = _once(PIPELINES[name], folder)
    return made


def _once(write: Callable[[Path], str], folder: Path) -> str:
    """What ``write`` gives for its folder; pipelines of gigabytes are written by one run alone."""
    place, said = folder / write.__name__, folder / f"{write.__name__}.path"
    if not said.is_file():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            said.parent.mkdir(parents=True, exist_ok=True)
            said.write_text(write(place))
    return said.read_text()
