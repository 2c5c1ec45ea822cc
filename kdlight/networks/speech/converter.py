"""Frames of a speech model to the log-mel spectrogram of one voice, by way of content."""

from torch import Tensor, nn

from kdlight.codec.frame_rate import Backbone
from kdlight.codec.log_mel import LogMel
from kdlight.core.ranges import LayerCount, PositiveInt, SampleRate
from kdlight.core.spec import Recorded


class VoiceConverter(Recorded, nn.Module):
    """An encoder of content and a decoder that knows one voice.

    Args:
        width: Channels of the speech model's frames.
        bands: Of the spectrogram.
        sample_rate: Of the audio that the frames and the spectrogram are of, Hz.
        hop_length: Samples of a frame of both.
        content: Channels between the two.
        channels: Of their blocks.
        layers: Number of blocks of each.

    Attributes:
        spectrum: What is drawn, and its units.
    """

    def __init__(
        self,
        width: PositiveInt,
        bands: PositiveInt = 80,
        sample_rate: SampleRate = 16000,
        hop_length: PositiveInt = 320,
        content: PositiveInt = 64,
        channels: PositiveInt = 128,
        layers: LayerCount = 2,
    ) -> None:
        super().__init__()
        self.width = width
        self.bands = bands
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.content = content
        self.spectrum = LogMel(bands, sample_rate, hop_length)
        self.norm = nn.LayerNorm(width)
        self.encoder = Backbone(width, content, channels, layers, 3)
        self.decoder = Backbone(content, bands, channels, layers, 3)

    def encode(self, frames: Tensor) -> Tensor:
        """Content (B, F, content) of frames (B, F, width)."""
        content: Tensor = self.encoder(self.norm(frames).transpose(1, 2)).transpose(1, 2)
        return content

    def decode(self, content: Tensor) -> Tensor:
        """Normalised log-mel spectrogram (B, F, bands) of content (B, F, content)."""
        mel: Tensor = self.decoder(content.transpose(1, 2)).transpose(1, 2)
        return mel

    def heard(self, audio: Tensor) -> Tensor:
        """The same of audio (B, 1, T)."""
        mel: Tensor = self.spectrum(audio).transpose(1, 2)
        return mel

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised log-mel spectrogram (B, F, bands) of frames (B, F, width)."""
        return self.decode(self.encode(frames))
