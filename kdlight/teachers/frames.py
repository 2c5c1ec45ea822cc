"""What all teachers of audio share: one feature per frame, on the codec's own grid."""

import hashlib
import itertools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from kdlight.codec.frames import FrameGrid, frame_mask, resample_frames
from kdlight.core.frozen import digest
from kdlight.core.spec import Recorded, spec_of
from kdlight.errors import InputError
from kdlight.storage.audio import read_audio
from kdlight.storage.pretrained import whole

# Arguments that say where a model lies, not what it is.
LOCATIONS = ("name", "path", "folder")
# Entries of a configuration that change no feature.
NOT_COMPUTED = ("_name_or_path", "transformers_version", "architectures", "dtype")

# Weights that no hidden state in evaluation mode depends on.
NOT_ASKED = ("pooler.", "masked_spec_embed", "decoder.")

Layers = int | list[int] | Literal["mean"]


@dataclass(frozen=True, eq=False)
class Waveform:
    """Audio in memory, where there is no file.

    Attributes:
        samples: (1, T).
        sample_rate: Samples per second.
        name: For messages.
    """

    samples: Tensor
    sample_rate: int
    name: str = "audio in memory"

    @cached_property
    def content(self) -> str:
        """SHA-256 of the samples and their rate, in hexadecimal."""
        total = hashlib.sha256(f"{self.sample_rate}:".encode())
        total.update(self.samples.detach().cpu().float().contiguous().numpy().data)
        return total.hexdigest()


Source = Path | str | Waveform
"""What a teacher is asked about: a file of audio, a text, or audio in memory."""


class FrameFeatures(NamedTuple):
    """What a teacher says about a batch.

    Attributes:
        features: (B, F, D), float32; zero where the mask is off.
        mask: Frames that hold audio, (B, F), bool.
    """

    features: Tensor
    mask: Tensor


class FrozenTeacher(Recorded, nn.Module):
    """A pretrained model that is only asked: no gradient, always in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: dropped layers and masked spans are no teacher's opinion."""
        return super().train(False)

    def freeze(self) -> None:
        """Take the weights out of training; called once they are loaded."""
        self.requires_grad_(False).eval()

    def identity(self) -> dict[str, Any]:
        """What decides the features, JSON-ready: class, settings, configuration, hash of weights.

        Where the model lies does not: a cache outlives a move of the folder.
        """
        spec = spec_of(self)
        settings = {k: v for k, v in spec["init_args"].items() if k not in LOCATIONS}
        return {
            "class": spec["class_path"],
            "settings": settings,
            "configuration": configuration_of(self),
            "weights": digest(self),
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @abstractmethod
    def describe(self, source: Source) -> dict[str, Tensor]:
        """Features of one source, on the CPU, by name, as the cache keeps them."""


class FrameTeacher(FrozenTeacher):
    """Base of the teachers of audio. A subclass gives :meth:`states` at its own rate.

    Attributes:
        sample_rate: What :meth:`states` hears, in Hz.
        hop_length: Samples of one of its frames.
        width: D.
    """

    sample_rate: int
    hop_length: int
    width: int

    @property
    def grid(self) -> FrameGrid:
        """The teacher's frames; every one is centred on its own samples."""
        return FrameGrid(self.sample_rate, self.hop_length)

    @abstractmethod
    def states(self, audio: Tensor) -> Tensor:
        """Features (B, ceil(T / hop_length), D) of audio (B, T) without padding, all B as long."""

    @torch.no_grad()
    def forward(
        self, audio: Tensor, lengths: Tensor | None = None, grid: FrameGrid | None = None
    ) -> FrameFeatures:
        """Features of a batch, one a frame of the codec.

        Every utterance is heard without its padding, so what comes out does not depend on what
        else is in the batch. Utterances of equal length are heard together.

        Args:
            audio: (B, 1, T), at the rate of ``grid``.
            lengths: Samples of every utterance, (B,); all T, if None.
            grid: Grid of the codec; the teacher's own, if None.

        Raises:
            InputError: The audio has another shape, or a length is not from 1 to T.
        """
        grid = grid or self.grid
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise InputError(f"audio: expected (B, 1, T), found {tuple(audio.shape)}.")
        batch, _, longest = audio.shape
        if lengths is None:
            lengths = torch.full((batch,), longest, device=audio.device)
        sizes = lengths.tolist()
        if len(sizes) != batch or not all(1 <= size <= longest for size in sizes):
            raise InputError(f"lengths: expected {batch} from 1 to {longest}, found {sizes}.")
        n_frames = -(-longest // grid.hop_length)
        features = audio.new_zeros(batch, n_frames, self.width, dtype=torch.float32)
        mask = frame_mask(lengths.to(audio.device), grid.hop_length, n_frames)
        with torch.autocast(audio.device.type, enabled=False):
            for size in sorted(set(sizes)):
                rows = [row for row, own in enumerate(sizes) if own == size]
                heard = audio[rows, 0, :size].float()
                if grid.sample_rate != self.sample_rate:
                    heard = resample(heard, grid.sample_rate, self.sample_rate)
                found = self.states(heard).float()
                whole = torch.ones(found.shape[:2], dtype=torch.bool, device=found.device)
                found, known = resample_frames(found, whole, self.grid, grid, n_frames)
                features[rows] = torch.where(mask[rows][..., None], found, 0.0)
                mask[rows] &= known
        return FrameFeatures(features, mask)

    @torch.no_grad()
    def describe(self, source: Source) -> dict[str, Tensor]:
        """``features`` (F, D) of audio, on the teacher's own grid."""
        if isinstance(source, Waveform):
            audio = resample(source.samples, source.sample_rate, self.sample_rate)
        else:
            audio = read_audio(Path(source), self.sample_rate)
        audio = audio.to(self.device)
        return {"features": self(audio[None]).features[0].cpu()}


def configuration_of(module: nn.Module) -> dict[str, Any]:
    """What a model of transformers computes with its weights, JSON-ready; empty for others."""
    configs = (getattr(part, "config", None) for part in module.modules())
    found = next((config for config in configs if hasattr(config, "to_dict")), None)
    settings: dict[str, Any] = {} if found is None else found.to_dict()
    return {key: value for key, value in settings.items() if key not in NOT_COMPUTED}


def load_transformer(name: str, owner: str) -> Any:
    """A model of transformers, from a folder or the hub, whose hidden states are asked for.

    Args:
        name: Folder of ``save_pretrained``, or a name of the hub.
        owner: Who needs it, for the complaint.

    Raises:
        InputError: There is no such model, or the folder lacks weights of its layers.
    """
    import transformers

    expected = f"a {owner} that transformers can load"
    return whole(transformers.AutoModel, name, expected, NOT_ASKED, dtype=torch.float32)


def check_layers(layers: Layers, count: int, owner: str) -> None:
    """Refuse layers that a model with ``count`` of them does not have.

    Raises:
        InputError: A layer is not from 0 to ``count``, there is none, or a word is unknown.
    """
    chosen = [layers] if isinstance(layers, int) else layers
    if layers != "mean" and (
        isinstance(chosen, str) or not chosen or not all(0 <= layer <= count for layer in chosen)
    ):
        raise InputError(
            f"{owner}: layers: expected numbers from 0 (the input) to {count}, or 'mean', "
            f"found {layers!r}."
        )


def pick_layers(hidden_states: Sequence[Tensor], layers: Layers) -> Tensor:
    """One layer, or the mean of several: tensors (B, F, D) to one.

    Args:
        hidden_states: What transformers returns: the input of the first layer, then the output of
            each. ``"mean"`` takes them all, as the code of SpeechTokenizer and DM-Codec does.
        layers: A position in it, a list of positions, or ``"mean"``.
    """
    if isinstance(layers, int):
        return hidden_states[layers]
    chosen = range(len(hidden_states)) if layers == "mean" else layers
    return torch.stack([hidden_states[int(layer)] for layer in chosen]).mean(dim=0)
