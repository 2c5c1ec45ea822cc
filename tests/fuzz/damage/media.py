"""Ways to spoil sound and pictures."""

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from tests.fuzz.damage.anything import Damage


def wav_header(path: Path, source: random.Random) -> None:
    data = bytearray(path.read_bytes())
    # Channels, rate, bytes a second, block, bits; lengths of the file and of the data.
    place, form = source.choice(((22, "<H"), (24, "<I"), (28, "<I"), (32, "<H"), (34, "<H"),
                                 (4, "<I"), (40, "<I")))  # fmt: skip
    largest = 2 ** (8 * struct.calcsize(form)) - 1
    struct.pack_into(form, data, place, source.choice((0, 1, 2, largest, largest // 2)))
    path.write_bytes(bytes(data))


def wav_values(path: Path, source: random.Random) -> None:
    wave = source.choice((
        np.zeros(0), np.zeros(1), np.full(4000, np.nan), np.full(4000, np.inf), np.zeros(4000),
        np.full(4000, 1e30), np.zeros((4000, 16)), np.full(4000, 9000.0),
    ))  # fmt: skip
    soundfile.write(path, wave, source.choice((1, 8000, 2**31 - 1)), subtype="FLOAT", format="WAV")


SOUND: list[Damage] = [wav_header, wav_header, wav_values, wav_values]


def picture_mode(path: Path, source: random.Random) -> None:
    kind = "TIFF" if path.suffix == ".tiff" else "PNG"
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I") + (
        ("F", "CMYK", "LAB") if kind == "TIFF" else ()
    )
    size = source.choice(((1, 1), (8, 8), (3, 500), (2000, 1)))
    Image.new(source.choice(modes), size).save(path, format=kind)


def picture_huge(path: Path, source: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data[:4] == b"\x89PNG":
        struct.pack_into(
            ">II", data, 16, *source.choice(((2**31 - 1, 2**31 - 1), (60_000, 60_000), (0, 0)))
        )
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    path.write_bytes(bytes(data))


PICTURE: list[Damage] = [picture_mode, picture_mode, picture_huge]
