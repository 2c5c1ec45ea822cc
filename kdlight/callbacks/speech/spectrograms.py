"""Audio as pictures: the level of each frequency over time."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdlight.storage.atomic import atomic_path

HEIGHT = 128
WIDEST = 480
N_FFT = 1024
RANGE = 80.0
"""Decibels from the darkest to the brightest."""


def mel(frequency: Tensor) -> Tensor:
    """HTK's mel scale: ``2595 log10(1 + f / 700)``."""
    return 2595 * torch.log10(1 + frequency / 700)


def levels(audio: Tensor, sample_rate: int) -> Tensor:
    """Power in decibels, (HEIGHT, columns), the highest frequency first.

    Rows are even on the mel scale from 0 to half the sample rate; columns are even in time.

    Args:
        audio: (1, T).
        sample_rate: Samples per second.
    """
    samples = audio[0].detach().float().cpu()
    hop = max(sample_rate // 200, -(-len(samples) // WIDEST))
    spectrum = torch.stft(
        torch.nn.functional.pad(samples, (0, max(0, N_FFT - len(samples)))),
        N_FFT,
        hop,
        window=torch.hann_window(N_FFT),
        pad_mode="constant",
        return_complex=True,
    )
    power = 20 * spectrum.abs().clamp(min=1e-5).log10()
    top = mel(torch.tensor(sample_rate / 2))
    rows = torch.linspace(float(top), 0.0, HEIGHT)
    position = 700 * (10 ** (rows / 2595) - 1) * N_FFT / sample_rate
    below = position.floor().long().clamp(0, N_FFT // 2 - 1)
    share = (position - below)[:, None]
    return power[below] * (1 - share) + power[below + 1] * share


def save_spectrogram(audio: Tensor, sample_rate: int, path: Path, top: float) -> None:
    """Write audio (1, T) as a PNG without axes.

    Args:
        audio: (1, T).
        sample_rate: Samples per second.
        path: Where.
        top: Level of the brightest colour, decibels; the same for all that are compared.
    """
    shade = ((levels(audio, sample_rate) - top) / RANGE + 1).clamp(0, 1).numpy()
    colours = matplotlib.colormaps["magma"](shade, bytes=True)[..., :3]
    # 128 colours compress to half the size, and no eye tells them apart.
    picture = Image.fromarray(np.ascontiguousarray(colours)).quantize(128)
    with atomic_path(path) as temporary:
        picture.save(temporary, optimize=True)
