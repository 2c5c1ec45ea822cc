"""The log-mel spectrogram as a teacher: the plainest features of audio, and a control."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

from kdlight.core.ranges import SampleRate
from kdlight.errors import InputError
from kdlight.teachers.frames import FrameTeacher


class MelTeacher(FrameTeacher):
    """Log-mel spectrogram, frame k around the middle of hop k. It has no weights.

    Args:
        n_mels: Bands, the width of the features.
        sample_rate: Samples per second.
        hop_length: Samples of a frame.
        n_fft: Window, at least a hop, and even with it.

    Raises:
        InputError: The window is shorter than the hop, or not even with it.
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self,
        n_mels: int = 80,
        sample_rate: SampleRate = 16000,
        hop_length: int = 320,
        n_fft: int = 512,
    ) -> None:
        super().__init__()
        if n_fft < hop_length or (n_fft - hop_length) % 2 or n_mels < 1:
            raise InputError(
                f"n_fft: expected {hop_length} or an even number of samples more, and a band or "
                f"more, found {n_fft} and {n_mels}."
            )
        self.sample_rate, self.hop_length, self.width = sample_rate, hop_length, n_mels
        self.n_fft = n_fft
        bank = melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)
        self.freeze()

    def states(self, audio: Tensor) -> Tensor:
        margin = (self.n_fft - self.hop_length) // 2
        rest = -audio.shape[-1] % self.hop_length
        spectrum = torch.stft(
            F.pad(audio, (margin, margin + rest)),
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=False,
            return_complex=True,
        )
        return (self.bank @ spectrum.abs()).clamp(min=1e-5).log().transpose(1, 2)
