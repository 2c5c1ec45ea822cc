"""Tensors inside pickles of whole objects, read without running anything.

A tensor that is pickled as part of an object carries its numbers as a file of its own in torch's
older format: five pickles and raw bytes. torch reads that file without restriction; this does not.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import torch
from torch import Tensor

from kdlight.errors import InputError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
FORBIDDEN = {"EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "NEXT_BUFFER", "READONLY_BUFFER"}
PERSISTENT = {"PERSID", "BINPERSID"}
DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def scan(stream: Any, forbidden: set[str]) -> None:
    """Read the opcodes of one pickle, before anything is built of it.

    Args:
        stream: Positioned at a pickle; left where it stood.
        forbidden: Opcodes that must not occur.

    Raises:
        InputError: One does, or the pickle would make the reader reserve memory without end.
        ValueError: The pickle is damaged.
    """
    start = stream.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name in forbidden:
            raise InputError(
                f"refused: its pickle has the opcode {opcode.name}, which no network needs"
            )
        # The reader's memory for shared objects is an array up to the largest index.
        if opcode.name.endswith(("PUT", "GET")) and isinstance(argument, int) and argument > count:
            raise InputError("damaged: its pickle refers to objects that it cannot hold")
    stream.seek(start)


class Inert:
    """What a pickle may hold but never change: BUILD finds no attribute to set."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise InputError("refused: its pickle changes what it was given")


class _StorageType(Inert):
    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _StorageUnpickler(pickle.Unpickler):
    """Reads the five pickles; keeps what the fourth says of the storage."""

    found: tuple[torch.dtype, int] | None = None

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return _StorageType(DTYPES[name])
        raise InputError(f"refused: a tensor in it names {module}.{name}")

    def persistent_load(self, identifier: Any) -> None:
        kind, storage, _, _, count, view = identifier
        if kind != "storage" or not isinstance(storage, _StorageType) or view is not None:
            raise InputError("refused: a tensor in it is stored in an unknown way")
        if type(count) is not int or count < 0:
            raise ValueError("storage without a length")
        self.found = storage.dtype, count


def load_storage(data: bytes) -> Tensor:
    """The numbers of a storage, (numel,).

    Args:
        data: What torch's older format wrote of one storage.

    Raises:
        InputError: It would run code, or holds something else.
        ValueError: It is damaged; so does any other error of reading say.
    """
    stream = io.BytesIO(data)
    parts, found = [], None
    for place in range(5):
        scan(stream, FORBIDDEN if place == 3 else FORBIDDEN | PERSISTENT)
        reader = _StorageUnpickler(stream)
        parts.append(reader.load())
        found = reader.found or found
    if parts[:2] != [MAGIC, PROTOCOL] or parts[2].get("little_endian") is not True or not found:
        raise ValueError("not a storage")
    dtype, count = found
    written = int.from_bytes(stream.read(8), "little", signed=True)
    start = stream.tell()
    if written != count or len(data) - start != count * dtype.itemsize:
        raise ValueError("storage of another length")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(memoryview(data)[start:]), dtype=dtype)


class StoredTensor(Inert):
    """A tensor as the pickle describes it; :meth:`tensor` makes it.

    Args:
        storage: The numbers, (numel,).
        offset: Where its first number is.
        size: Its shape.
        stride: Its strides, in numbers.
    """

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        numbers = (offset, *size, *stride)
        if not isinstance(storage, Storage) or len(size) != len(stride):
            raise ValueError("not a tensor")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("negative or fractional sizes")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and max(last + 1, count) > len(storage.values):
            raise ValueError("a tensor past its storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def tensor(self) -> Tensor:
        """The tensor, contiguous, with memory of its own."""
        values = self.storage.values
        return torch.as_strided(values, self.size, self.stride, self.offset).clone(
            memory_format=torch.contiguous_format
        )


class Storage(Inert):
    """Numbers that one or several tensors share.

    Args:
        data: See :func:`load_storage`.
    """

    __slots__ = ("values",)

    def __init__(self, data: Any) -> None:
        if not isinstance(data, bytes):
            raise ValueError("a storage that is no bytes")
        self.values = load_storage(data)
