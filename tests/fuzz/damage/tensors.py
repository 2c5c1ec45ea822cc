"""Ways to spoil what is inside files of tensors."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fuzz.damage.anything import Canary, Damage
from tests.fuzz.damage.places import VALUES, leaves, replaced, without


def _odd(tensor: torch.Tensor, source: random.Random) -> Any:
    """Something else in the place of a tensor."""
    filled = tensor.clone()
    if filled.is_floating_point() and filled.numel():
        filled.view(-1)[0] = float("nan")
    return source.choice((
        filled, tensor.flatten()[:0], tensor.double(), tensor.to(torch.complex64), tensor[None],
        tensor.flatten(), tensor.bool(), tensor.to_sparse() if tensor.ndim else tensor[None],
        torch.zeros(()), torch.zeros(3), None, 3, "x", [], {}, tensor.half() * float("inf"),
    ))  # fmt: skip


def torch_changed(path: Path, source: random.Random) -> None:
    value = torch.load(path, weights_only=True)
    place = source.choice(leaves(value) or [()])
    found = value
    for key in place:
        found = found[key]
    new = _odd(found, source) if isinstance(found, torch.Tensor) else source.choice(VALUES)
    torch.save(replaced(value, place, new), path)


def torch_gone(path: Path, source: random.Random) -> None:
    value = torch.load(path, weights_only=True)
    places = leaves(value)
    torch.save(without(value, source.choice(places)) if places else None, path)


def torch_top(path: Path, source: random.Random) -> None:
    torch.save(source.choice((None, [], {}, 3, torch.zeros(3), {"image": [1]}, {1: 2})), path)


TORCH: list[Damage] = [*[torch_changed] * 6, torch_gone, torch_gone, torch_top]


def _safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _write_safetensors(path: Path, header: Any, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def header_changed(path: Path, source: random.Random) -> None:
    header, data = _safetensors(path)
    _write_safetensors(
        path, replaced(header, source.choice(leaves(header)), source.choice(VALUES)), data
    )


def header_dtype(path: Path, source: random.Random) -> None:
    header, data = _safetensors(path)
    name = source.choice([name for name in header if name != "__metadata__"])
    header[name]["dtype"] = source.choice(("F64", "F16", "BF16", "I32", "U8", "BOOL", "F8_E4M3"))
    _write_safetensors(path, header, data)


def header_gone(path: Path, source: random.Random) -> None:
    header, data = _safetensors(path)
    _write_safetensors(path, without(header, source.choice(leaves(header))), data)


def header_long(path: Path, source: random.Random) -> None:
    path.write_bytes(struct.pack("<Q", source.choice((2**63, 10**9, 0))) + path.read_bytes()[8:])


def weights_not_finite(path: Path, source: random.Random) -> None:
    header, data = _safetensors(path)
    _write_safetensors(path, header, b"\xff" * len(data))


SAFETENSORS: list[Damage] = [header_changed, header_changed, header_dtype, header_gone,
                             header_long, weights_not_finite]  # fmt: skip


def npz_changed(path: Path, source: random.Random) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = source.choice(list(arrays))
    array = arrays[name]
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (3, 5), (0, 0))
    arrays[name] = source.choice((
        array[:0], array.astype(np.float64) * np.nan, array.astype(str), array[None], array.ravel(),
        array.astype(np.complex64), array.astype(np.int64) * 0 - 1, array.astype(bool), huge,
        np.zeros((0, 3)), np.float32(3), array.astype(np.float16) + np.inf,
        array.astype(">f4"), array.astype("datetime64[s]"), array.astype(np.int64) + 10**9,
    ))  # fmt: skip
    np.savez(path, **arrays)


def npz_objects(path: Path, source: random.Random) -> None:
    with np.load(path) as archive:
        names = archive.files
    objects = np.array([Canary()], dtype=object)
    np.savez(path, **dict.fromkeys(names, objects))


def npz_renamed(path: Path, source: random.Random) -> None:
    np.savez(path, other=np.zeros(3))


NPZ: list[Damage] = [*[npz_changed] * 4, npz_objects, npz_renamed]
