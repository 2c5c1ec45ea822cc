"""The log-mel spectrogram that synthesis draws: normalised band by band, and audible again."""

from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.functional import melscale_fbanks
from torchaudio.transforms import GriffinLim, InverseMelScale

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, SampleRate
from kdlight.core.spec import Recorded
from kdlight.errors import InputError


class LogMel(Recorded, nn.Module):
    """Natural logarithm of mel magnitudes, frame k around the middle of hop k.

    Each band is brought to mean 0 and variance 1 over training speech, so that noise levels mean
    the same for every band; the constants are buffers and travel with the weights.

    Args:
        bands: Number of bands, HTK scale.
        sample_rate: Samples per second.
        hop_length: Samples of a frame; 320 at 16 kHz lie on a codec's frames.
        n_fft: Window, a hop or an even number of samples more.
        f_min: Lowest frequency, Hz.
        f_max: Highest frequency, Hz; half the sample rate if None.
        floor: Magnitudes below count as this.

    Attributes:
        mean: Of each band, (bands,).
        scale: Standard deviation of each band.

    Raises:
        InputError: The window does not fit the hop.
    """

    mean: Tensor
    scale: Tensor
    window: Tensor
    bank: Tensor

    def __init__(
        self,
        bands: PositiveInt = 80,
        sample_rate: SampleRate = 16000,
        hop_length: PositiveInt = 320,
        n_fft: PositiveInt = 1024,
        f_min: NonNegativeFloat = 0.0,
        f_max: PositiveFloat | None = None,
        floor: PositiveFloat = 1e-5,
    ) -> None:
        super().__init__()
        if n_fft < hop_length or (n_fft - hop_length) % 2:
            raise InputError(
                f"n_fft: expected {hop_length} or an even number of samples more, found {n_fft}."
            )
        self.bands, self.sample_rate, self.hop_length = bands, sample_rate, hop_length
        self.n_fft, self.floor = n_fft, floor
        self.range = (f_min, f_max or sample_rate / 2)
        bank = melscale_fbanks(n_fft // 2 + 1, *self.range, bands, sample_rate)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("scale", torch.ones(bands))

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Normalised spectrogram (B, bands, ceil(T / hop_length)) of audio (B, 1, T)."""
        return self.normalised(self.raw(audio))

    def raw(self, audio: Tensor) -> Tensor:
        """The same in natural logarithms of magnitudes."""
        margin = (self.n_fft - self.hop_length) // 2
        rest = -audio.shape[-1] % self.hop_length
        with torch.autocast(audio.device.type, enabled=False):
            spectrum = torch.stft(
                pad(audio.squeeze(1).float(), (margin, margin + rest)),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=False,
                return_complex=True,
            )
            return (self.bank @ spectrum.abs()).clamp(min=self.floor).log()

    def normalised(self, mel: Tensor) -> Tensor:
        """Natural logarithms (B, bands, F) in units of the training speech."""
        return (mel - self.mean[:, None]) / self.scale[:, None]

    def natural(self, mel: Tensor) -> Tensor:
        """Back from :meth:`normalised`."""
        return mel * self.scale[:, None] + self.mean[:, None]

    @torch.no_grad()
    def learn(self, recordings: Iterable[Tensor]) -> None:
        """Measure every band's mean and deviation over recordings (1, T)."""
        frames = torch.cat([self.raw(audio[None])[0].double() for audio in recordings], dim=1)
        self.mean.copy_(frames.mean(dim=1))
        self.scale.copy_(frames.std(dim=1).clamp(min=1e-3))

    @cached_property
    def _inverse(self) -> tuple[InverseMelScale, GriffinLim]:
        inverse = InverseMelScale(
            self.n_fft // 2 + 1, self.bands, self.sample_rate, *self.range, driver="gelsd"
        )
        # From zero phases: the same spectrogram always sounds the same.
        phases = GriffinLim(self.n_fft, 32, hop_length=self.hop_length, power=1.0, rand_init=False)
        return inverse, phases

    @torch.no_grad()
    def listen(self, mel: Tensor) -> Tensor:
        """Audio (1, F hop_length) of a normalised spectrogram (bands, F) (Griffin & Lim 1984).

        To listen to, not to measure: phases are guessed and the bands' inner detail is gone.
        """
        inverse, phases = self._inverse
        # As many frames as the transform needs to have samples on both sides.
        natural = self.natural(mel.detach().float().cpu()[None].to(self.mean.device)).cpu()
        whole = pad(natural, (1, 1), mode="replicate")
        audio = phases(inverse(whole.exp()))
        half = self.hop_length // 2
        return pad(audio, (0, self.hop_length))[:, half : half + mel.shape[-1] * self.hop_length]
