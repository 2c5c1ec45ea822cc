"""Pickles written by NVlabs' persistence mechanism, read without running anything of them.

Such a file holds whole objects together with the source of their classes, which NVlabs' loader
executes. Here an object becomes a record of its class's name and its state, the source is left
alone, and every other name in the file that is not on a short list is refused.
"""

import mmap
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.legacy_tensors import (
    FORBIDDEN,
    PERSISTENT,
    Inert,
    Storage,
    StoredTensor,
    scan,
)

VERSION = 6
MOST_PARTS = 100_000
# What reading a damaged file may raise, and what its parts raise here.
_DAMAGE = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    OSError,
)


class Record(Inert):
    """An object of the file: the name of its class, and its attributes.

    Args:
        class_name: As in the file, without its module.
        state: Its attributes.
    """

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state


class _Frozen(type):
    """A class that a pickle can make objects of, but not change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise InputError("refused: its pickle changes what it was given")


class _Mapping(dict[Any, Any], metaclass=_Frozen):
    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if state:
            raise InputError("refused: its pickle gives a dictionary attributes")


class _Container(metaclass=_Frozen):
    """``ModuleDict`` and its like, whose state follows in the pickle."""

    __slots__ = ("state",)
    state: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise ValueError("a module without attributes")
        self.state = state


class _Dtype(metaclass=_Frozen):
    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|"):
            raise ValueError("numbers of another byte order")


class _Array(metaclass=_Frozen):
    """An array of numpy, whose shape and numbers follow in the pickle."""

    __slots__ = ("value",)
    value: np.ndarray[Any, Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: bytes, dtype: _Dtype, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


def _whole_array(*arguments: Any) -> _Array:
    made = _Array()
    made.value = _array(*arguments)
    return made


class _Hook(Inert):
    """A function that a pickle may call, but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def _record(meta: Any) -> Record:
    if meta["type"] != "class" or meta["version"] != VERSION:
        raise InputError(
            f"expected objects of the persistence mechanism's version {VERSION}, "
            f"found {meta['version']!r}"
        )
    if not isinstance(meta["class_name"], str) or not isinstance(meta["state"], dict):
        raise ValueError("an object without a name or attributes")
    return Record(meta["class_name"], meta["state"])


def _dtype(name: Any, *_: Any) -> _Dtype:
    if name not in ("f8", "f4", "f2", "i8", "i4", "u1", "b1"):
        raise InputError(f"refused: it holds numbers of numpy's type {name!r}")
    made = _Dtype()
    made.dtype = np.dtype(name)
    return made


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype.dtype, 1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise InputError(f"refused: it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _known() -> dict[tuple[str, str], Any]:
    """What each name of a pickle stands for; made anew for every file."""
    hooks: dict[tuple[str, str], Callable[..., Any]] = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _record,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *given: StoredTensor(*given[:4]),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        ("torch.storage", "_load_from_bytes"): Storage,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
    }
    for module in ("numpy.core", "numpy._core"):
        hooks[f"{module}.multiarray", "scalar"] = _scalar
        hooks[f"{module}.multiarray", "_reconstruct"] = lambda *_: _Array()
        hooks[f"{module}.numeric", "_frombuffer"] = _whole_array
    known: dict[tuple[str, str], Any] = {name: _Hook(hook) for name, hook in hooks.items()}
    known["numpy", "ndarray"] = Inert()
    known["dnnlib.util", "EasyDict"] = known["collections", "OrderedDict"] = _Mapping
    for name in ("ModuleDict", "ModuleList", "Sequential"):
        known["torch.nn.modules.container", name] = _Container
    return known


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._known = _known()

    def find_class(self, module: str, name: str) -> Any:
        # By the exact pair: a dotted name would walk on from a known one.
        if (module, name) not in self._known:
            raise InputError(f"refused: it names {module}.{name}, which no published network needs")
        return self._known[module, name]


def read_persistent(path: Path) -> Any:
    """What a ``.pkl`` of NVlabs holds: records, mappings and plain values.

    Raises:
        InputError: The file is missing or damaged, or names something else than the parts of a
            published network; then nothing of it was run.
    """
    require_file(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            scan(data, FORBIDDEN | PERSISTENT)
            return _Unpickler(data).load()
    except InputError as refusal:
        raise InputError(f"{path}: {refusal}.") from None
    except _DAMAGE:
        raise InputError(
            f"{path}: expected a pickle of NVlabs' networks, found a damaged or another file."
        ) from None


@dataclass(frozen=True)
class StoredModule:
    """A module of the file.

    Attributes:
        class_name: Name of its class.
        arguments: What its constructor was given by name.
        positional: What it was given by position.
        state: Its other attributes.
    """

    class_name: str
    arguments: Mapping[str, Any]
    positional: tuple[Any, ...]
    state: Mapping[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, as ``state_dict`` would give them.

        Raises:
            InputError: Modules contain one another, or are more than any network has.
        """
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        waiting: list[tuple[str, Any]] = [("", self.state)]
        while waiting:
            prefix, state = waiting.pop()
            if id(state) in seen or len(seen) > MOST_PARTS:
                raise InputError("refused: its modules contain one another")
            seen.add(id(state))
            for name, value in _entries(state, "_parameters") + _entries(state, "_buffers"):
                if isinstance(value, StoredTensor):
                    found[f"{prefix}{name}"] = value.tensor()
            for name, part in _entries(state, "_modules"):
                if part is not None:
                    waiting.append((f"{prefix}{name}.", getattr(part, "state", None)))
        return found


def _entries(state: Any, key: str) -> list[tuple[str, Any]]:
    """Named parts of a module's state.

    Raises:
        InputError: It has none, as every module has.
    """
    entries = state.get(key) if isinstance(state, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
        raise InputError(f"expected a module with {key}, found something else")
    return list(entries.items())


def stored_module(value: Any) -> StoredModule:
    """``value`` as a module.

    Raises:
        InputError: It is none.
    """
    if not isinstance(value, Record):
        raise InputError("expected a network, found something else")
    arguments = value.state.get("_init_kwargs", {})
    positional = value.state.get("_init_args", ())
    if not isinstance(arguments, dict) or not isinstance(positional, (tuple, list)):
        raise InputError(f"expected the arguments of {value.class_name}, found none")
    return StoredModule(value.class_name, arguments, tuple(positional), value.state)
