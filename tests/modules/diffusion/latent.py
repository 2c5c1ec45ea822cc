"""A latent text-to-image pipeline of random weights, small enough for tests."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZE = 16
"""Side of its pictures; its latents are half as wide."""


def write_pipeline(path: Path, prediction: str = "epsilon", size: int = SIZE) -> str:
    """Write the pipeline as a folder of diffusers and return its name."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=size,
        )
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
        tokenizer = CLIPTokenizer(
            vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=6
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=6,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        # Attention starts so evenly spread that prompts would hardly differ.
        for parameter in text_encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        unet = UNet2DConditionModel(
            sample_size=size // 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(path)
    return str(path)
