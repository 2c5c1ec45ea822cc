"""Audio files in and out: mono, one sample rate, in memory or in pieces."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample

from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import require_file
from kdlight.storage.folders import files_below

UNREAD = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".wma", ".amr", ".3gp", ".webm", ".mka", ".mkv", ".mov"),
    *(".ape", ".wv", ".tta", ".mpc", ".spx", ".ac3", ".dts", ".dsf", ".dff", ".ra", ".raw", ".pcm"),
)
"""Names of audio that libsndfile does not read: such files are found, and named with the reason."""
SUFFIXES = (
    *(".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc", ".avr", ".paf"),
    *UNREAD,
)
"""Names of audio files, in small letters; a file of any other name is asked what it is."""
TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".yaml")
"""Names of what lies beside audio and is not asked."""
BLOCK = 2**20
"""Samples that are decoded at once, so that a header which promises too much takes no memory."""
UNKNOWN = 2**63 - 1
"""Length that libsndfile reports for a stream whose header does not say it."""
LOUDEST = 16.0
"""Floating-point audio may pass full scale, but by 24 dB only if it is meant as integers."""


class ScaleError(InputError):
    """Samples in the scale of integers, tens of thousands of times too loud."""


class AudioInfo(NamedTuple):
    """What the header of a file says.

    Attributes:
        frames: Samples of one channel.
        sample_rate: Samples per second.
        channels: Number of channels.
    """

    frames: int
    sample_rate: int
    channels: int


def audio_info(path: Path) -> AudioInfo:
    """Length, sample rate and channels of an audio file.

    Raises:
        InputError: The file is missing, is no audio, or does not say how long it is.
    """
    require_file(path)
    try:
        found = soundfile.info(str(path))
    except (soundfile.LibsndfileError, TypeError):  # the latter of a name that ends in .raw
        raise _no_audio(path) from None
    if found.frames == UNKNOWN:
        raise InputError(f"{path}: expected a header with the number of samples, found none.")
    return AudioInfo(found.frames, found.samplerate, found.channels)


def read_audio(
    path: Path,
    sample_rate: int | None = None,
    start: int = 0,
    frames: int = -1,
    channels: int = 1,
) -> Tensor:
    """Audio as (1, T) float32: the mean of the channels, resampled, in [-1, 1] for integer files.

    An uncompressed file (WAV, AIFF) that is cut short is read as far as it goes.

    Args:
        path: Any format that libsndfile reads.
        sample_rate: Rate to resample to; the file's own if None.
        start: First sample to read, at the file's own rate.
        frames: Samples to read, at the file's own rate; -1 reads to the end. Ogg and MP3 files
            are decoded from their start all the same.
        channels: A file of just so many comes as (channels, T), any other as its mean.

    Raises:
        InputError: The file is missing, no audio, cut short, empty, or holds a NaN or an infinity.
        ScaleError: It holds integers in floating point.
    """
    info = audio_info(path)
    if frames < 0:
        frames = max(0, info.frames - start)
    with _opened(path) as file:
        _move(path, file, min(start, info.frames))
        audio = _read(path, file, frames, mixed=info.channels != channels)
    if audio.shape[-1] < frames:
        raise InputError(
            f"{path}: cut short: expected {start + frames} samples, "
            f"found {start + audio.shape[-1]}."
        )
    if audio.numel() == 0:
        raise InputError(f"{path}: expected audio, found no sample.")
    return audio if sample_rate is None else resample(audio, info.sample_rate, sample_rate)


def stream_audio(
    path: Path, sample_rate: int, block: int, start: int = 0, frames: int = -1
) -> Iterator[Tensor]:
    """The samples of :func:`read_audio` in pieces, in bounded memory.

    Args:
        path: Any format that libsndfile reads.
        sample_rate: Rate to resample to.
        block: Samples of a piece at ``sample_rate``, about; the last piece is shorter.
        start: See :func:`read_audio`.
        frames: See :func:`read_audio`.

    Yields:
        Pieces (1, t), t >= 1. Where the file is resampled, equal to the whole but for rounding.

    Raises:
        InputError, ScaleError: As :func:`read_audio`.
    """
    info = audio_info(path)
    length = info.frames - start if frames < 0 else frames
    if length <= 0:
        raise InputError(f"{path}: expected audio, found no sample.")
    # A piece is read with margins that hold the whole resampling filter, and starts where the
    # phases of both rates meet, so that it is what the whole would give at that place.
    unit = info.sample_rate // math.gcd(info.sample_rate, sample_rate)
    step = max(1, round(block * info.sample_rate / sample_rate / unit)) * unit
    margin = 0 if info.sample_rate == sample_rate else unit * -(-_filter(info, sample_rate) // unit)
    held, first, last = torch.zeros(1, 0), 0, 0  # samples first to last, from ``start`` on
    with _opened(path) as file:
        _move(path, file, min(start, info.frames))
        for place in range(0, length, step):
            begin, stop = max(0, place - margin), min(length, place + step + margin)
            found = _read(path, file, stop - last)
            if found.shape[-1] < stop - last:
                raise InputError(
                    f"{path}: cut short: expected {start + length} samples, "
                    f"found {start + last + found.shape[-1]}."
                )
            held = torch.cat([held[:, begin - first :], found], dim=1)
            first, last = begin, stop
            piece = held if not margin else resample(held, info.sample_rate, sample_rate)
            skip = (place - first) * sample_rate // info.sample_rate
            whole = step * sample_rate // info.sample_rate
            # The last piece ends a fraction of a sample behind the file's end.
            piece = piece[:, skip:] if place + step >= length else piece[:, skip:][:, :whole]
            if piece.numel():
                yield piece


def resampled_length(info: AudioInfo, sample_rate: int) -> int:
    """Samples that a file has at ``sample_rate``."""
    return -(-info.frames * sample_rate // info.sample_rate)


def check_scale(samples: Tensor, name: str) -> None:
    """Refuse samples far beyond [-1, 1], as of 16-bit integers that were turned into floats.

    Args:
        samples: Finite, of any shape.
        name: Of the file or the argument, for the complaint.

    Raises:
        ScaleError: One is beyond :data:`LOUDEST`.
    """
    if samples.numel() and samples.abs().max() > LOUDEST:
        raise ScaleError(
            f"{name}: expected samples in [-1, 1], found {samples.min():g} to {samples.max():g}; "
            "if they are integers in floating point, divide them by full scale, 32768 for 16 bits."
        )


def write_audio(path: Path, audio: Tensor, sample_rate: int) -> None:
    """Write (1, T) as 16-bit WAV or FLAC, by the suffix, clipped to [-1, 1].

    Raises:
        InputError: The suffix is another one, or there is nothing to write.
    """
    if path.suffix.lower() not in (".wav", ".flac"):
        raise InputError(f"{path}: expected a name that ends in .wav or .flac.")
    if audio.ndim != 2 or audio.shape[0] != 1 or audio.numel() == 0:
        raise InputError(f"{path}: expected audio (1, T), found {tuple(audio.shape)}.")
    samples = audio[0].detach().float().cpu().clamp(-1, 1).numpy()
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), samples, sample_rate, subtype="PCM_16")


def find_audio(folder: Path) -> list[Path]:
    """All audio files below a folder (:func:`~.folders.files_below`), whatever they are called.

    A file by whose name nobody would know is audio if libsndfile says so; texts are not asked.

    Raises:
        InputError: There is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of audio files, found none.")
    found = [path for path in files_below(folder) if _may_be_audio(path)]
    if not found:
        raise InputError(
            f"{folder}: expected audio files ({' '.join(SUFFIXES[:9])} ...), found none."
        )
    return found


def _may_be_audio(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in TEXTS:
        return suffix not in TEXTS
    try:
        with _muted():
            soundfile.info(str(path))
    except soundfile.LibsndfileError:
        return False
    return True


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Libmpg123 tells the process's standard error what it thinks of a file that is no MP3."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Forward(soundfile.SoundFile):
    """A file that is read on and on: soundfile would seek behind every read of one it can seek."""

    def seekable(self) -> bool:
        return False


def _opened(path: Path) -> _Forward:
    try:
        return _Forward(str(path))
    except soundfile.LibsndfileError:
        raise _no_audio(path) from None


def _move(path: Path, file: _Forward, start: int) -> None:
    """Let a file that was just opened go on at sample ``start``."""
    try:
        if file.format not in ("OGG", "MP3"):
            file.seek(start)
            return
        # libsndfile misses the place in the last page of a Vorbis file, and decodes what an MP3
        # file has behind a jump from too few of the bits before it.
        while start and len(passed := file.read(min(start, BLOCK), dtype="float32")):
            start -= len(passed)
    except soundfile.LibsndfileError:
        raise _damaged(path) from None


def _read(path: Path, file: _Forward, frames: int, mixed: bool = True) -> Tensor:
    """What comes next, (1 or channels, frames), or as much as there is.

    Args:
        path: For messages.
        file: Where to read.
        frames: Samples to read.
        mixed: Whether to take the mean of the channels.
    """
    pieces, left = [torch.zeros(1 if mixed else file.channels, 0)], frames
    try:
        while left:
            block = min(left, BLOCK)
            samples = torch.from_numpy(file.read(block, dtype="float32", always_2d=True))
            if not samples.isfinite().all():
                raise InputError(f"{path}: expected finite samples, found a NaN or an infinity.")
            check_scale(samples, str(path))
            pieces.append(samples.mean(dim=1)[None] if mixed else samples.T)
            left -= len(samples)
            if len(samples) < block:
                break
    except soundfile.LibsndfileError:
        raise _damaged(path) from None
    return torch.cat(pieces, dim=1)


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: damaged or cut short.")


def _no_audio(path: Path) -> InputError:
    if path.suffix.lower() in UNREAD:
        return InputError(
            f"{path}: expected a format that libsndfile reads, such as WAV or FLAC, "
            f"found {path.suffix}."
        )
    return InputError(f"{path}: expected audio, found something else or a damaged file.")


def _filter(info: AudioInfo, sample_rate: int) -> int:
    """Half the width of torchaudio's filter (6 zero crossings), in samples of the file."""
    return -(-6 * info.sample_rate * 2 // min(info.sample_rate, sample_rate))
