"""Audio for the tests of the speech metrics: no file, no network."""

import math

import torch
from torch import Tensor

RATE = 16_000


def noise(count: int, level: float = 1.0, seed: int = 0) -> Tensor:
    return level * torch.randn(count, generator=torch.Generator().manual_seed(seed))


def voice(seconds: float = 2.0, rate: int = RATE, pitch: float = 120.0, seed: int = 0) -> Tensor:
    """Harmonics of a gliding pitch in syllables of four a second: what PESQ takes for speech."""
    time = torch.arange(int(seconds * rate)) / rate
    f0 = pitch * (1 + 0.2 * torch.sin(2 * math.pi * 0.7 * time + seed))
    phase = 2 * math.pi * torch.cumsum(f0, 0) / rate
    formants = torch.sin(2 * math.pi * 1.3 * time + seed) * 0.5 + 1.5
    harmonics = [
        torch.sin(k * phase) * torch.exp(-((k * pitch / 700 - formants) ** 2)) for k in range(1, 25)
    ]
    syllables = torch.sin(2 * math.pi * 4 * time).clamp(min=0) ** 0.5
    return 0.1 * torch.stack(harmonics).sum(0) * syllables + noise(len(time), 1e-4, seed + 1)
