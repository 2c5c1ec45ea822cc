"""Ways to spoil any file."""

import os
import pickle
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Damage = Callable[[Path, random.Random], None]
"""Spoils one file in its place."""

CANARY = Path(tempfile.gettempdir()) / f"kdlight_canary_{os.getpid()}"
"""A folder that is there once code of a file has run."""


class Canary:
    """Makes the folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(CANARY),)


def halved(path: Path, source: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def shortened(path: Path, source: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: -source.randint(1, 9)])


def emptied(path: Path, source: random.Random) -> None:
    path.write_bytes(b"")


def flipped(path: Path, source: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(source.choice((1, 3, 20))):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(bytes(data))


def flipped_in_front(path: Path, source: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[source.randrange(min(len(data), 64))] ^= 1 << source.randrange(8)
    path.write_bytes(bytes(data))


def lengthened(path: Path, source: random.Random) -> None:
    path.write_bytes(path.read_bytes() + source.randbytes(50))


def noise(path: Path, source: random.Random) -> None:
    path.write_bytes(source.randbytes(2000))


def zeros(path: Path, source: random.Random) -> None:
    path.write_bytes(bytes(2000))


def other_kind(path: Path, source: random.Random) -> None:
    heads = (b"\x89PNG\r\n\x1a\n", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"PK\x03\x04", b"\x1f\x8b\x08")
    path.write_bytes(source.choice((*heads, b"{}", b"hello\n", b"[1, 2]", b"%PDF-1.7")))


def pickled(path: Path, source: random.Random) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Canary()}, protocol=2))


def torch_pickled(path: Path, source: random.Random) -> None:
    torch.save({"state_dict": {}, "image": Canary()}, path)


def missing(path: Path, source: random.Random) -> None:
    path.unlink()


def a_folder(path: Path, source: random.Random) -> None:
    path.unlink()
    path.mkdir()


def unreadable(path: Path, source: random.Random) -> None:
    path.chmod(0)


def loop(path: Path, source: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path, source: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: Path, source: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def linked_to_nothing(path: Path, source: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


ANY: list[Damage] = [
    *(halved, shortened, emptied, flipped, flipped_in_front, lengthened, noise, zeros, other_kind),
    *(pickled, torch_pickled, missing, a_folder, unreadable, loop, endless, pipe),
    linked_to_nothing,
]
