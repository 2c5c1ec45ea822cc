"""Audio files: any format and rate in, whole or in pieces; damage in one sentence."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kdlight.errors import InputError
from kdlight.storage import audio
from kdlight.storage.audio import (
    ScaleError,
    audio_info,
    find_audio,
    read_audio,
    resampled_length,
    stream_audio,
    write_audio,
)

FORMATS = {
    "16 bit": ("wav", "WAV", "PCM_16", 1e-4),
    "24 bit": ("wav", "WAV", "PCM_24", 1e-6),
    "8 bit": ("wav", "WAV", "PCM_U8", 1e-2),
    "float": ("wav", "WAV", "FLOAT", 1e-6),
    "flac": ("flac", "FLAC", "PCM_16", 1e-4),
    "aiff": ("aiff", "AIFF", "PCM_16", 1e-4),
    "au": ("au", "AU", "PCM_16", 1e-4),
    "vorbis": ("ogg", "OGG", "VORBIS", 2e-2),
    "opus": ("opus", "OGG", "OPUS", 8e-2),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III", 4e-2),
}


def tone(frames, rate, frequency=440):
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(frames) / rate)


def noise(frames, seed=0):
    return 0.1 * torch.randn(frames, generator=torch.Generator().manual_seed(seed))


def save(path, samples, rate, kind="float"):
    _, container, subtype, _ = FORMATS[kind]
    soundfile.write(str(path), np.asarray(samples), rate, format=container, subtype=subtype)
    return path


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_tone_of_any_format_and_rate_is_heard_at_the_asked_rate(tmp_path, kind, rate):
    suffix, container, _, error = FORMATS[kind]
    if container not in soundfile.available_formats():
        pytest.skip(f"this libsndfile cannot write {container}")
    if kind == "opus" and rate == 44100:
        pytest.skip("Opus has no such rate")
    path = save(tmp_path / f"a.{suffix}", tone(rate, rate), rate, kind)
    assert audio_info(path) == (rate, rate, 1)
    heard = read_audio(path, 16000)
    assert heard.dtype == torch.float32
    assert heard.shape == (1, 16000)
    # Not the ends, where the filter and lossy formats miss their past.
    found, expected = heard[0, 2000:-2000], tone(16000, 16000)[2000:-2000]
    assert (found - expected).abs().max() < error + 2e-3
    assert read_audio(path).shape == (1, rate)


def test_channels_are_averaged(tmp_path):
    left, right = noise(3000), noise(3000, 1)
    path = save(tmp_path / "a.wav", torch.stack([left, right], 1), 16000)
    torch.testing.assert_close(read_audio(path)[0], (left + right) / 2)
    assert audio_info(path).channels == 2


def test_integers_of_full_scale_are_between_minus_one_and_one(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(str(path), np.array([-32768, 0, 16384, 32767], np.int16), 16000)
    assert read_audio(path)[0].tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_part_is_that_part_of_the_whole(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK", 1000)
    suffix = FORMATS[kind][0]
    path = save(tmp_path / f"a.{suffix}", noise(48000), 16000, kind)
    whole = read_audio(path)
    for start in (0, 1, 24321, 46000, 47000, 47999):
        part = read_audio(path, start=start)
        torch.testing.assert_close(part, whole[:, start:], atol=1e-6, rtol=0)
        frames = min(1500, 48000 - start)
        part = read_audio(path, None, start, frames)
        torch.testing.assert_close(part, whole[:, start : start + frames], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rate", "target"),
    [(16000, 16000), (8000, 16000), (44100, 16000), (22050, 24000), (48000, 16000)],
)
@pytest.mark.parametrize("frames", [1, 37, 20011])
def test_a_stream_equals_the_whole(tmp_path, rate, target, frames):
    path = save(tmp_path / "a.wav", noise(frames), rate)
    whole = read_audio(path, target)
    assert whole.shape[1] == resampled_length(audio_info(path), target)
    for block in (700, 4096, 10**6):
        pieces = list(stream_audio(path, target, block))
        assert all(piece.shape[1] for piece in pieces)
        assert pieces[0].shape[1] < block + rate // math.gcd(rate, target) * target // rate + 1
        joined = torch.cat(pieces, dim=1)
        assert joined.shape == whole.shape
        torch.testing.assert_close(joined, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["flac", "vorbis", "opus", "mp3"])
@pytest.mark.parametrize("block", [1000, 3777])
def test_a_stream_of_a_compressed_file_equals_the_whole(tmp_path, kind, block):
    path = save(tmp_path / f"a.{FORMATS[kind][0]}", noise(24000), 16000, kind)
    joined = torch.cat(list(stream_audio(path, 8000, block)), dim=1)
    torch.testing.assert_close(joined, read_audio(path, 8000), atol=1e-6, rtol=0)


def test_a_stream_holds_one_piece_in_memory(tmp_path, monkeypatch):
    path = save(tmp_path / "a.wav", noise(50000), 16000)
    read = []
    original = audio._read
    monkeypatch.setattr(audio, "_read", lambda *args: read.append(args[2]) or original(*args))
    stream = stream_audio(path, 8000, 1000)
    next(stream)
    next(stream)
    assert len(read) == 2
    assert max(read) < 3000


@pytest.mark.parametrize("kind", ["flac", "vorbis", "opus", "mp3"])
@pytest.mark.parametrize("part", [0.6, 0.01])
def test_a_compressed_file_that_is_cut_short_is_refused_or_known_to_be_shorter(
    tmp_path, kind, part
):
    path = save(tmp_path / f"a.{FORMATS[kind][0]}", noise(48000), 16000, kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    for read in (read_audio, lambda path: torch.cat(list(stream_audio(path, 16000, 4000)), 1)):
        if kind in ("vorbis", "opus") and part > 0.1:
            # The length of an Ogg file stands in its last page: what is left is whole in itself.
            assert 0 < read(path).shape[1] < 48000
            continue
        with pytest.raises(InputError, match=f"^{path}: [^.]*\\.$"):
            read(path)


def flac_that_says(path, frames):
    """A FLAC file of 48000 samples whose header says another number."""
    content = bytearray(save(path, noise(48000), 16000, "flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = struct.pack(">I", frames)
    path.write_bytes(bytes(content))
    return path


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    path = flac_that_says(tmp_path / "a.flac", 2**32 - 1)  # 16 GB
    for read in (read_audio, lambda path: list(stream_audio(path, 16000, 10**5))):
        with pytest.raises(
            InputError, match=r"a\.flac: cut short: expected \d+ samples, found \d+"
        ):
            read(path)


def test_a_header_that_hides_the_end_hides_it(tmp_path):
    assert read_audio(flac_that_says(tmp_path / "a.flac", 1000)).shape == (1, 1000)


def test_a_header_without_a_length_is_refused(tmp_path):
    path = flac_that_says(tmp_path / "a.flac", 0)
    for read in (audio_info, read_audio, lambda path: list(stream_audio(path, 16000, 4000))):
        with pytest.raises(InputError, match="expected a header with the number of samples"):
            read(path)


def test_a_wav_file_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path):
    path = save(tmp_path / "a.wav", noise(1000), 16000)
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[:-400])
    assert torch.equal(read_audio(path), whole[:, :900])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sample_that_is_no_number_is_refused(tmp_path, value):
    samples = noise(5000)
    samples[4321] = value
    path = save(tmp_path / "a.wav", samples, 16000)
    for read in (read_audio, lambda path: list(stream_audio(path, 8000, 500))):
        with pytest.raises(InputError, match="found a NaN or an infinity"):
            read(path)
    assert read_audio(path, None, 0, 4000).shape == (1, 4000)


def test_integers_in_floating_point_are_refused_and_loud_audio_is_not(tmp_path):
    loud = save(tmp_path / "loud.wav", 30 * noise(5000), 16000)  # mixed without a limiter
    assert 5 < read_audio(loud).abs().max() < 16
    path = save(tmp_path / "a.wav", (noise(5000) * 32768).round(), 16000)
    low, high = (f"{value:g}" for value in (noise(5000) * 32768).round().aminmax())
    for read in (read_audio, lambda path: list(stream_audio(path, 8000, 500))):
        with pytest.raises(ScaleError, match=r"a\.wav: expected samples in \[-1, 1\], found -"):
            read(path)
    with pytest.raises(ScaleError, match=f"found {low} to {high}; if they are integers .* 32768"):
        read_audio(path)
    # What the channels of a stereo file have against each other hides nothing.
    two = (noise(5000) * 32768).round()
    with pytest.raises(ScaleError):
        read_audio(save(tmp_path / "b.wav", torch.stack([two, -two], 1), 16000))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "expected audio, found something else or a damaged file"),
        (b"hello, this is a text file, no audio", "expected audio, found something else"),
    ],
)
def test_what_is_no_audio_is_refused(tmp_path, content, words):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    for read in (audio_info, read_audio, lambda path: list(stream_audio(path, 8000, 500))):
        with pytest.raises(InputError, match=f"a.wav: {words}"):
            read(path)
    with pytest.raises(InputError, match="expected a file, found a folder"):
        read_audio(tmp_path)


def test_a_file_without_a_sample_is_refused(tmp_path):
    path = save(tmp_path / "a.wav", torch.zeros(0), 16000)
    for read in (read_audio, lambda path: list(stream_audio(path, 8000, 500))):
        with pytest.raises(InputError, match="expected audio, found no sample"):
            read(path)


@pytest.mark.parametrize("suffix", [".wav", ".FLAC"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    samples = noise(1000)[None]
    samples[0, :2] = torch.tensor([3.0, -3.0])  # clipped
    path = tmp_path / "new" / f"a{suffix}"
    write_audio(path, samples, 22050)
    assert audio_info(path) == (1000, 22050, 1)
    torch.testing.assert_close(read_audio(path), samples.clamp(-1, 1), atol=2**-15, rtol=0)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write_audio(path, noise(1000)[None], 16000)
    before = path.read_bytes()

    def full(name, *_, **__):
        Path(name).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(OSError, match="no space left"):
        write_audio(path, noise(2000)[None], 16000)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("a.mp3", (1, 10), r"expected a name that ends in \.wav or \.flac"),
        ("a", (1, 10), "expected a name"),
        ("a.wav", (10,), r"expected audio \(1, T\), found \(10,\)"),
        ("a.wav", (2, 10), r"found \(2, 10\)"),
        ("a.wav", (1, 0), r"found \(1, 0\)"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, shape, words):
    with pytest.raises(InputError, match=words):
        write_audio(tmp_path / name, torch.zeros(shape), 16000)
    assert not list(tmp_path.iterdir())


def test_audio_is_found_in_order_and_hidden_files_are_not(tmp_path):
    hidden = (".a.wav", ".cache/b.wav", "b/.x/c.mp3")
    for name in ("b/2.WAV", "b/1.flac", "a.ogg", "note.txt", *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    names = [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path)]
    assert names == ["a.ogg", "b/1.flac", "b/2.WAV"]
    with pytest.raises(InputError, match=r"expected audio files \(\.wav .* found none"):
        find_audio(tmp_path / "folder.wav")
    with pytest.raises(InputError, match="expected a folder of audio files, found none"):
        find_audio(tmp_path / "nowhere")
