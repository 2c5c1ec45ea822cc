"""Encoders and decoders of transformers' codecs: audio to latents, latents to audio.

Each holds the layers of a model as they are, so that latents and audio are the model's to the bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MimiEncoder(nn.Module):
    """Mimi's convolutions, transformer and last stride.

    Args:
        part: ``MimiModel.encoder``.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, audio: Tensor) -> Tensor:
        """Latents (B, D, F) of audio (B, 1, T)."""
        latents: Tensor = self.part(audio).latents
        return latents


class XcodecEncoder(nn.Module):
    """X-Codec (arXiv:2408.17175): what DAC's encoder hears beside what a speech model does.

    The speech model stays as it is, in training too.

    Args:
        model: ``XcodecModel``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.acoustic = model.acoustic_encoder
        self.speech_model = model.semantic_model.requires_grad_(False)
        self.semantic = model.encoder_semantic
        self.join = model.fc
        self.margin = int(model.pad)

    def forward(self, audio: Tensor) -> Tensor:
        """Latents (B, D, F) of audio (B, 1, F * hop_length)."""
        padded = F.pad(audio, (self.margin, self.margin))
        with torch.no_grad():
            states = self.speech_model(padded[:, 0], output_hidden_states=True).hidden_states
        semantic = self.semantic(torch.stack(states, dim=1).mean(dim=1).transpose(1, 2))
        acoustic = self.acoustic(audio)
        if acoustic.shape[-1] != semantic.shape[-1]:
            acoustic = self.acoustic(padded)
        both = torch.cat([acoustic, semantic], dim=1)
        latents: Tensor = self.join(both.transpose(1, 2)).transpose(1, 2)
        return latents


class XcodecDecoder(nn.Module):
    """X-Codec's way from latents to audio.

    Args:
        model: ``XcodecModel``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.project = model.fc2
        self.acoustic = model.acoustic_decoder
        # They predict the speech model's features in its own training, and take no part in coding.
        self.unused = nn.ModuleList([model.fc1, model.decoder_semantic]).requires_grad_(False)

    def forward(self, latents: Tensor) -> Tensor:
        """Audio (B, 1, T) of latents (B, D, F)."""
        audio: Tensor = self.acoustic(self.project(latents.transpose(1, 2)).transpose(1, 2))
        return audio


class WholeFrames(nn.Module):
    """A decoder whose audio is as long as its frames.

    Transposed convolutions of an odd stride, as in DAC at 24 kHz, leave some samples of the end
    out; silence takes their place.

    Args:
        part: Latents (B, D, F) to audio (B, 1, T), or to an output that has ``audio_values``.
        hop_length: Samples of a frame.
    """

    def __init__(self, part: nn.Module, hop_length: int) -> None:
        super().__init__()
        self.part = part
        self.hop_length = hop_length

    def forward(self, latents: Tensor) -> Tensor:
        """Audio (B, 1, F * hop_length) of latents (B, D, F)."""
        output = self.part(latents)
        audio: Tensor = getattr(output, "audio_values", output)
        return F.pad(audio, (0, latents.shape[-1] * self.hop_length - audio.shape[-1]))
