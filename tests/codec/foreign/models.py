"""Small codecs of transformers with random weights, and codebooks that are in use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DacConfig,
    DacModel,
    EncodecConfig,
    EncodecModel,
    HubertConfig,
    MimiConfig,
    MimiModel,
    XcodecConfig,
    XcodecModel,
)

from kdlight.storage.pretrained import silent

RATE = 16000
HOP = 24
"""Samples of a frame, but for X-Codec: its speech model has the hop of HuBERT."""


def _spread(books: list[Tensor], frames: Tensor) -> None:
    """Put codebooks (K, D) on some of the frames (F, D), smaller from level to level."""
    for level, book in enumerate(books):
        order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(level))
        book.copy_(frames[order[: len(book)]] * 0.6**level)


def encodec(**settings: Any) -> EncodecModel:
    """EnCodec with 3 levels of 64 codes."""
    model = EncodecModel(
        EncodecConfig(
            target_bandwidths=[4.002, 12.006],
            sampling_rate=RATE,
            hidden_size=16,
            num_filters=4,
            upsampling_ratios=[4, 3, 2],
            codebook_size=64,
            **settings,
        )
    ).eval()
    channels = model.config.audio_channels
    frames = model.encoder(torch.randn(1, channels, 100 * HOP))[0].T
    _spread([layer.codebook.embed for layer in model.quantizer.layers], frames)
    return model


def encodec_of_pieces() -> EncodecModel:
    """EnCodec as at 48 kHz: stereo, group normalisation, scaled pieces of 40 frames."""
    return encodec(
        audio_channels=2,
        normalize=True,
        chunk_length_s=0.06,
        overlap=0.05,
        norm_type="time_group_norm",
        use_causal_conv=False,
    )


def dac() -> DacModel:
    """DAC with 3 levels of 64 codes, and a stride that is odd."""
    model = DacModel(
        DacConfig(
            encoder_hidden_size=4,
            downsampling_ratios=[2, 4, 3],
            decoder_hidden_size=32,
            n_codebooks=3,
            codebook_size=64,
            codebook_dim=4,
            sampling_rate=RATE,
        )
    ).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.Conv1d):
            part.reset_parameters()  # transformers' start is too small to tell codes apart
    return model


def mimi() -> MimiModel:
    """Mimi with 4 levels of 64 codes."""
    model = MimiModel(
        MimiConfig(
            sampling_rate=RATE,
            hidden_size=16,
            num_filters=4,
            upsampling_ratios=[4, 3],
            codebook_size=64,
            codebook_dim=8,
            vector_quantization_hidden_dimension=8,
            num_quantizers=4,
            num_hidden_layers=1,
            intermediate_size=32,
            num_attention_heads=2,
            num_key_value_heads=2,
            upsample_groups=16,
            sliding_window=10,
        )
    ).eval()
    latents = model.encoder(torch.randn(1, 1, 100 * HOP)).latents
    quantizer = model.quantizer
    for part in (
        quantizer.semantic_residual_vector_quantizer,
        quantizer.acoustic_residual_vector_quantizer,
    ):
        books = [layer.codebook.embed_sum for layer in part.layers]
        _spread(books, part.input_proj(latents)[0].T)
    return model


def xcodec() -> XcodecModel:
    """X-Codec with 3 levels of 64 codes, of a small DAC and a small HuBERT."""
    config = XcodecConfig(
        target_bandwidths=[0.3, 0.9],
        codebook_size=64,
        acoustic_model_config={
            "model_type": "dac",
            "encoder_hidden_size": 2,
            "downsampling_ratios": [8, 5, 4, 2],
            "upsampling_ratios": [8, 5, 4, 2],
            "decoder_hidden_size": 32,
            "hidden_size": 8,
        },
        semantic_model_config=HubertConfig(
            hidden_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=[8] * 7,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        ).to_dict(),
    )
    model = XcodecModel(config).eval()
    kept: list[Tensor] = []
    hook = model.fc.register_forward_hook(lambda *call: kept.append(call[2]))
    model.encode(torch.randn(1, 1, 100 * 320))
    hook.remove()
    _spread([layer.codebook.embed for layer in model.quantizer.quantizers], kept[0][0])
    return model


MAKERS: dict[str, Callable[[], Any]] = {
    "encodec": encodec,
    "dac": dac,
    "mimi": mimi,
    "xcodec": xcodec,
}


@torch.no_grad()
def saved(folder: Path, kind: str) -> tuple[Any, Path]:
    """A model, one of ``MAKERS`` or ``pieces``, and the folder that it was saved to."""
    torch.manual_seed(0)
    model = encodec_of_pieces() if kind == "pieces" else MAKERS[kind]()
    with silent():
        model.save_pretrained(folder / kind)
    return model, folder / kind


@torch.no_grad()
def own_codes(model: Any, audio: Tensor) -> Tensor:
    """All levels (B, n_q, F) of audio (B, 1, T) of whole frames, of transformers itself."""
    if model.config.model_type in ("encodec", "xcodec"):
        codes = model.encode(audio, bandwidth=model.config.target_bandwidths[-1]).audio_codes
        return codes[0] if model.config.model_type == "encodec" else codes
    codes = model.encode(audio).audio_codes
    return codes


@torch.no_grad()
def own_audio(model: Any, codes: Tensor) -> Tensor:
    """Audio (B, 1, T) of codes, of transformers itself."""
    if model.config.model_type == "encodec":
        return model.decode(codes[None], [None]).audio_values
    audio = model.decode(audio_codes=codes).audio_values
    return audio.reshape(len(codes), 1, -1)
