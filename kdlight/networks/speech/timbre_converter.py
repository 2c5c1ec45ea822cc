"""Tokens of one recording in the voice of another: what timbre factorisation trains."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdlight.codec.codebook import kmeans, nearest
from kdlight.codec.log_mel import LogMel
from kdlight.core.noise import mix
from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.diffusion.samplers import SAMPLERS
from kdlight.diffusion.sigmas import Grid
from kdlight.errors import InputError

SHORTEST, QUIETEST = 0.25, 1e-3
"""Seconds of a recording at least, and its root mean square at least."""


class TimbreConverter(Recorded, nn.Module):
    """A tokeniser of spectrograms, and a denoiser told tokens and a prompt.

    A token is the nearest of K frames that k-means finds in training speech: what is said, and who
    says it too, as the tokens of a codec. No vocoder stands between a drawn spectrogram and its
    tokens.

    Args:
        denoiser: Of normalised spectrograms, told what
            :class:`~kdlight.networks.speech.speech_dit.SpeechDiT` is.
        grid: Lays the noise levels of a walk.
        log_mel: The spectrogram.
        codes: Tokens K.
        steps: Calls of a walk.

    Attributes:
        centroids: The frames, (K, bands).
    """

    centroids: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        grid: Grid,
        log_mel: LogMel | None = None,
        codes: PositiveInt = 64,
        steps: PositiveInt = 8,
    ) -> None:
        super().__init__()
        self.denoiser, self.grid, self.steps = denoiser, grid, steps
        self.log_mel = LogMel() if log_mel is None else log_mel
        self.register_buffer("centroids", torch.zeros(codes, self.log_mel.bands))

    @torch.no_grad()
    def learn(self, recordings: Iterable[Tensor], seed: int = 0) -> None:
        """Measure the bands and find the tokens, from recordings (1, T)."""
        heard = list(recordings)
        self.log_mel.learn(heard)
        frames = torch.cat([self.log_mel(audio[None])[0].T for audio in heard])
        generator = torch.Generator().manual_seed(mix(seed))
        self.centroids.copy_(kmeans(frames, len(self.centroids), 10, generator)[0])

    @torch.no_grad()
    def tokens(self, mel: Tensor) -> Tensor:
        """The token of each frame as its centroid, (B, bands, F), of spectrograms of that shape."""
        rows = mel.transpose(1, 2)
        found = nearest(rows.flatten(0, 1), self.centroids)
        return self.centroids[found].reshape(rows.shape).transpose(1, 2)

    @torch.no_grad()
    def draw(self, condition: Condition, noise: Tensor) -> Tensor:
        """Spectrograms (B, bands, F) from unit noise of that shape; a prompt comes back as it is.

        Args:
            condition: Of the denoiser.
            noise: (B, bands, F).
        """
        sigmas = self.grid.sigmas(self.steps)
        start = self.denoiser.prior(noise, sigmas[0])
        mel = SAMPLERS["euler"](self.denoiser, start, sigmas, condition)
        mel = torch.where(condition["prompted"][:, None], condition["prompt"], mel)
        return mel * condition["mask"][:, None]

    @torch.no_grad()
    def converted(
        self, mel: Tensor, mask: Tensor, prompt: Tensor, heard: Tensor, noise: Tensor
    ) -> Tensor:
        """Spectrograms in the voices of prompts, (B, bands, F).

        Args:
            mel: What is said, (B, bands, F).
            mask: Its frames that count, (B, F) bool.
            prompt: Spectrograms of the voices, (B, bands, P).
            heard: Their frames that count, (B, P) bool.
            noise: (B, bands, P + F).
        """
        length = prompt.shape[2]
        both = torch.cat([prompt, mel], dim=2)
        condition = {
            "frames": self.tokens(both),
            "prompt": both,
            "prompted": nn.functional.pad(heard, (0, mel.shape[2])),
            "mask": torch.cat([heard, mask], dim=1),
        }
        return self.draw(condition, noise)[:, :, length:]

    def check(self, audio: Tensor) -> None:
        """Refuse a recording (1, T) that says nothing.

        Raises:
            InputError: It is too short or silent.
        """
        seconds = audio.shape[-1] / self.log_mel.sample_rate
        if seconds < SHORTEST:
            raise InputError(f"expected {SHORTEST} s of speech or more, found {seconds:.2f} s.")
        level = float(audio.float().square().mean().sqrt())
        if not level > QUIETEST:
            raise InputError(f"expected speech, found silence (level {level:.1e}).")

    @torch.no_grad()
    def convert(self, source: Tensor, reference: Tensor, seed: int = 0) -> Tensor:
        """A recording in another voice, as a normalised spectrogram (bands, F).

        ``log_mel.listen`` makes it audible.

        Args:
            source: (1, T) at the rate of ``log_mel``.
            reference: (1, T) of the voice.
            seed: Seed of the noise.

        Raises:
            InputError: One of them is too short or silent.
        """
        for name, audio in (("source", source), ("reference", reference)):
            try:
                self.check(audio)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        mel, prompt = (
            self.log_mel(audio[None].to(self.centroids)) for audio in (source, reference)
        )
        generator = torch.Generator().manual_seed(mix(seed))
        shape = (1, mel.shape[1], prompt.shape[2] + mel.shape[2])
        noise = torch.randn(shape, generator=generator).to(mel)
        all_of = [torch.ones(1, each.shape[2], dtype=torch.bool) for each in (mel, prompt)]
        mask, heard = (each.to(mel.device) for each in all_of)
        return self.converted(mel, mask, prompt, heard, noise)[0]
