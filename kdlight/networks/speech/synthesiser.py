"""A speech synthesiser: text to phones to frames to a spectrogram, in a few steps, to audio."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdlight.codec.log_mel import LogMel
from kdlight.core.noise import mix
from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.diffusion.samplers import SAMPLERS, Algorithm, function_evaluations
from kdlight.diffusion.sigmas import Grid
from kdlight.errors import InputError
from kdlight.networks.speech.front_end import FrontEnd
from kdlight.networks.speech.phone_text import PHONES, read_phones
from kdlight.networks.speech.wavenet import WaveNet

AT_ONCE = 16
"""Pieces of a text that are drawn together."""


class Spoken(NamedTuple):
    """What came of a text.

    Attributes:
        audio: (1, T), at the synthesiser's rate.
        mel: Its normalised spectrogram, (bands, F).
    """

    audio: Tensor
    mel: Tensor


class Synthesiser(Recorded, nn.Module):
    """Front end, denoiser, grid and sampler, with the scale of its spectrogram and its voices.

    Args:
        front_end: From phones to frames.
        denoiser: Of normalised spectrograms (B, bands, F), told ``frames`` and ``mask``.
        grid: Lays the noise levels of a walk of n steps.
        voices: Number of voices it keeps; ``voice`` n is one of the training speakers in the
            order of their names.
        log_mel: The spectrogram.
        algorithm: Which sampler walks the grid; ``euler`` (DDIM) is what students learn,
            ``euler_ancestral`` draws from the posterior as ProDiff's algorithm 2 does.
        steps: Step counts it is made for, the first is the default.
        any_steps: Whether other step counts make sense too.
        phones: Names of the phones, the first is silence.

    Attributes:
        table: The voices: mean of each normalised band in speech, and mean log f0,
            (voices, bands + 1).
        provenance: Where the weights came from (path and hash), empty if made here.

    Raises:
        InputError: Parts do not fit together, or there is no such algorithm.
    """

    table: Tensor

    def __init__(
        self,
        front_end: FrontEnd,
        denoiser: Denoiser,
        grid: Grid,
        voices: PositiveInt,
        log_mel: LogMel | None = None,
        algorithm: Algorithm = "euler",
        steps: Sequence[PositiveInt] = (4,),
        any_steps: bool = True,
        phones: Sequence[str] = PHONES,
    ) -> None:
        super().__init__()
        if algorithm not in SAMPLERS:
            raise InputError(
                f"algorithm: expected one of {', '.join(SAMPLERS)}, found {algorithm!r}."
            )
        self.front_end, self.denoiser, self.grid = front_end, denoiser, grid
        self.log_mel = LogMel() if log_mel is None else log_mel
        if front_end.bands != self.log_mel.bands or front_end.phones != len(phones):
            raise InputError(
                f"front_end: expected {self.log_mel.bands} bands and {len(phones)} phones, found "
                f"{front_end.bands} and {front_end.phones}."
            )
        network = getattr(denoiser, "network", None)
        told = (front_end.bands, front_end.width)
        if isinstance(network, WaveNet) and (network.bands, network.content) != told:
            raise InputError(
                f"denoiser: expected {told[0]} bands and the front end's width of {told[1]} as "
                f"content, found {network.bands} and {network.content}."
            )
        self.algorithm: Algorithm = algorithm
        self.steps, self.any_steps = tuple(steps), any_steps
        self.phones = tuple(phones)
        self.voices = voices
        self.register_buffer("table", torch.zeros(voices, front_end.bands + 1))
        self.provenance: dict[str, str] = {}

    def of(self, grid: Grid, steps: int) -> "Synthesiser":
        """The same parts, made for a walk of ``steps`` steps on another grid and for no other."""
        made = Synthesiser(
            self.front_end,
            self.denoiser,
            grid,
            self.voices,
            self.log_mel,
            self.algorithm,
            (steps,),
            False,
            self.phones,
        )
        made.table = self.table
        made.provenance = self.provenance
        return made.train(self.training)

    def accepts(self, steps: int) -> bool:
        """Whether it is made to sample in ``steps`` steps."""
        return self.any_steps or steps in self.steps

    def evaluations(self, steps: int) -> int:
        """Network calls (NFE) of a walk of ``steps`` steps."""
        return function_evaluations(self.algorithm, steps) * self.denoiser.network_calls

    @torch.no_grad()
    def describe(self, sentences: Iterable[Mapping[str, Any]]) -> Tensor:
        """A voice (bands + 1,), from sentences of one speaker.

        Args:
            sentences: Of each ``audio`` (1, T), ``pitch`` (F,) log Hz, and ``phones`` (L,) with
                their ``durations`` (L,), which say where there is silence.
        """
        told = []
        for each in sentences:
            speech = each["phones"].repeat_interleave(each["durations"]) > 1
            audio = each["audio"].to(self.table.device)
            pitch = each["pitch"].to(self.table)[None]
            told.append(torch.cat([self.log_mel(audio[None])[0], pitch])[:, speech])
        return torch.cat(told, dim=1).mean(dim=1)

    @torch.no_grad()
    def draw(self, condition: Condition, noise: Tensor, steps: int | None = None) -> Tensor:
        """Spectrograms (B, bands, F) from unit noise of that shape.

        Args:
            condition: What :meth:`FrontEnd.predict` gives.
            noise: (B, bands, F).
            steps: Step count; the default is the first of ``self.steps``.

        Raises:
            InputError: It does not sample in that many steps.
        """
        steps = self.steps[0] if steps is None else steps
        if not self.accepts(steps):
            known = ", ".join(str(count) for count in sorted(self.steps))
            raise InputError(f"steps: expected {known}, for which it was made, found {steps}.")
        sigmas = self.grid.sigmas(steps)
        told = {"frames": self.front_end(condition).frames, "mask": condition["mask"]}
        start = self.denoiser.prior(noise, sigmas[0])
        mel = SAMPLERS[self.algorithm](self.denoiser, start, sigmas, told)
        return mel * condition["mask"][:, None]

    @torch.no_grad()
    def speak(self, text: str, speaker: int = 0, steps: int | None = None, seed: int = 0) -> Spoken:
        """Say a text.

        Args:
            text: Words of phones: see :func:`kdlight.networks.speech.phone_text.read_phones`.
            speaker: Which of the voices.
            steps: Step count.
            seed: Seed of the noise.

        Raises:
            InputError: The text, the voice or the steps are not what it knows.
        """
        if not 0 <= speaker < self.voices:
            raise InputError(
                f"speaker: expected a voice from 0 to {self.voices - 1}, found {speaker}."
            )
        pieces = read_phones(text, self.phones)
        device = self.table.device
        parts = []
        for start in range(0, len(pieces), AT_ONCE):
            rows = [torch.tensor(piece) for piece in pieces[start : start + AT_ONCE]]
            phones = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
            voice = self.table[speaker].expand(len(rows), -1)
            condition = self.front_end.predict({"phones": phones, "speaker": voice})
            frames = condition["mask"].sum(dim=1).tolist()
            noise = torch.zeros(len(rows), self.log_mel.bands, max(frames))
            for row, count in enumerate(frames):
                generator = torch.Generator().manual_seed(mix(seed, start + row))
                noise[row, :, :count] = torch.randn(self.log_mel.bands, count, generator=generator)
            mel = self.draw(condition, noise.to(device), steps)
            parts += [mel[row, :, :count] for row, count in enumerate(frames)]
        whole = torch.cat(parts, dim=1)
        return Spoken(self.log_mel.listen(whole), whole)
