"""Latent pipelines of random weights, of every family, small enough for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.modules.diffusion.latent import write_pipeline

SIDE = 4
"""Side of their latents; pictures are twice as wide."""


def _autoencoder(**config: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=2 * SIDE,
        **config,
    )


def _text(width: int, projected: bool = True) -> Any:
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        projection_dim=6,
    )
    return kind(config)


def _moved(pipeline: Any, path: Path) -> str:
    """Written with every weight moved: layers that start at zero would make equality empty."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
    pipeline.save_pretrained(path)
    return str(path)


def _tokenizer(path: Path) -> Any:
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=6
    )


SCALED_LINEAR = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def stable_diffusion(path: Path) -> str:
    return write_pipeline(path, "v_prediction", size=2 * SIDE)


def stable_diffusion_xl(path: Path) -> str:
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=_text(8, projected=False),
        text_encoder_2=_text(8),
        tokenizer=_tokenizer(path),
        tokenizer_2=_tokenizer(path),
        unet=diffusers.UNet2DConditionModel(
            sample_size=SIDE,
            block_out_channels=(8, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 + 6 * 4,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", **SCALED_LINEAR),
        add_watermarker=False,
    )
    return _moved(pipeline, path)


def dit(path: Path) -> str:
    pipeline = diffusers.DiTPipeline(
        transformer=diffusers.DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=SIDE,
            patch_size=2,
            num_embeds_ada_norm=1000,  # DiTPipeline calls no class 1000, whatever the network
        ),
        vae=_autoencoder(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
        id2label={0: "cat", 1: "dog"},
    )
    return _moved(pipeline, path)


def stable_diffusion_3(path: Path) -> str:
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=SIDE,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=12,
            out_channels=4,
            pos_embed_max_size=4,
        ),
        vae=_autoencoder(shift_factor=0.06),
        text_encoder=_text(8),
        text_encoder_2=_text(8),
        text_encoder_3=None,
        tokenizer=_tokenizer(path),
        tokenizer_2=_tokenizer(path),
        tokenizer_3=None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    return _moved(pipeline, path)


PIECES = tuple("abcdefghijklmnopqrstuvwxyz")
SIZES = {
    "hidden_size": 12,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def _t5() -> Any:
    return T5EncoderModel(
        T5Config(vocab_size=len(PIECES) + 4, d_model=12, d_kv=6, d_ff=8, num_layers=1, num_heads=2)
    )


def _t5_tokenizer() -> Any:
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=[*special, *((piece, -3.0) for piece in PIECES)], extra_ids=0)


def flux(path: Path) -> str:
    pipeline = diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=12,
            pooled_projection_dim=10,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
        vae=_autoencoder(shift_factor=0.1),
        text_encoder=_text(10, projected=False),
        tokenizer=_tokenizer(path),
        text_encoder_2=_t5(),
        tokenizer_2=_t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
    return _moved(pipeline, path)


def pixart(path: Path) -> str:
    pipeline = diffusers.PixArtSigmaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=16,
            sample_size=SIDE,
            patch_size=2,
            caption_channels=12,
            use_additional_conditions=False,
        ),
        vae=_autoencoder(),
        scheduler=diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False),
        text_encoder=_t5(),
        tokenizer=_t5_tokenizer(),
    )
    return _moved(pipeline, path)


def sana(path: Path) -> str:
    pipeline = diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=12,
            sample_size=16,
            patch_size=1,
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=4,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=Gemma2Model(
            Gemma2Config(vocab_size=len(PIECES) + 6, head_dim=6, num_key_value_heads=1, **SIZES)
        ),
        tokenizer=GemmaTokenizer(
            vocab={
                word: index
                for index, word in enumerate(
                    ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *PIECES]
                )
            },
            merges=[],
        ),
    )
    return _moved(pipeline, path)


def qwen(path: Path) -> str:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "\u0120"]
    rope = {"rope_type": "default", "mrope_section": [1, 1, 1], "rope_theta": 1e4}
    text = {"vocab_size": len(special) + len(PIECES), "num_key_value_heads": 1, **SIZES}
    text |= {"rope_parameters": rope, "bos_token_id": 0, "eos_token_id": 0}
    vision = {"depth": 1, "hidden_size": 12, "intermediate_size": 8, "num_heads": 2}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"out_hidden_size": 12})
    pipeline = diffusers.QwenImagePipeline(
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=12,
            axes_dims_rope=(8, 4, 4),
        ),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.0, 2.0, 0.5, 1.5],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=Qwen2Tokenizer(
            vocab={word: index for index, word in enumerate([*special, *PIECES])}, merges=[]
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.02, max_shift=0.9
        ),
    )
    return _moved(pipeline, path)


FAMILIES: dict[str, Callable[[Path], str]] = {
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "dit": dit,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "pixart": pixart,
    "sana": sana,
    "qwen": qwen,
}
SIDES = {"flux": 2 * SIDE, "qwen": 2 * SIDE}
"""Sides of the pictures where the folder does not say them, pixels."""


def write_family(family: str, path: Path) -> str:
    """Write the pipeline of a family as a folder, always the same, and return its name."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FAMILIES[family](path)
