"""Pickles of whole objects are read, and nothing in them is run."""

import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdlight.errors import InputError
from kdlight.storage.legacy_tensors import load_storage
from kdlight.storage.persistent import read_persistent, stored_module
from tests.storage.persistence import Called, EasyDict, Stored, write


def module(**parameters: Any) -> Stored:
    parts = {"_parameters": OrderedDict(parameters), "_buffers": {}, "_modules": OrderedDict()}
    return Stored("Thing", {**parts, "_init_args": (4,), "_init_kwargs": {"width": 8}})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_become_records(protocol: int, tmp_path: Path) -> None:
    values = torch.randn(6, 4)
    inner = module(weight=nn.Parameter(values), part=values[1:3, ::2])
    outer = module(half=values.half(), none=None)
    outer.meta["state"]["_modules"]["inner"] = nn.ModuleDict()
    outer.meta["state"]["_modules"]["inner"]._modules = {"deep": inner}
    outer.meta["state"]["kinds"] = {"a", "b"}
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = EasyDict(ema=outer, array=array, number=np.float64(0.5))
    read = read_persistent(write(tmp_path / "a.pkl", content, protocol))
    assert read["number"] == 0.5
    assert (read["array"].value == array).all()
    found = stored_module(read["ema"])
    assert (found.class_name, found.positional, found.arguments) == ("Thing", (4,), {"width": 8})
    assert found.state["kinds"] == {"a", "b"}
    tensors = found.tensors()
    assert set(tensors) == {"half", "inner.deep.weight", "inner.deep.part"}
    assert torch.equal(tensors["inner.deep.weight"], values)
    assert torch.equal(tensors["inner.deep.part"], values[1:3, ::2])
    assert torch.equal(tensors["half"], values.half())


def malicious(marker: Path) -> dict[str, Any]:
    """Files of many kinds, each of which would run code or mislead a careless reader."""
    command = f"touch {marker}"
    system = Called(os.system, command)
    whole = io.BytesIO()
    torch.save({"a": system}, whole)
    legacy = pickle.dumps(system, protocol=2)
    return {
        "call": system,
        "call below": {"ema": module(weight=system)},
        "storage": Called(torch.storage._load_from_bytes, legacy),
        "archive": Called(torch.storage._load_from_bytes, whole.getvalue()),
        "eval": Called(eval, f"__import__('os').system({command!r})"),
        "getattr": Called(getattr, "", "join"),
        "import": Called(__import__, "os"),
    }


KINDS = ("call", "call below", "storage", "archive", "eval", "getattr", "import")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_run(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = write(tmp_path / "bad.pkl", malicious(marker)[kind])
    with pytest.raises(InputError, match=r"bad\.pkl: (refused: .* names |expected a pickle)"):
        read_persistent(path)
    assert not marker.exists()
    if kind == "call":
        pickle.loads(path.read_bytes())
        assert marker.exists()  # as it does without restriction


def test_the_source_in_the_file_is_never_run(tmp_path: Path) -> None:
    # It ends the process if it is: see tests/storage/persistence.py.
    read = read_persistent(write(tmp_path / "a.pkl", {"ema": module()}))
    assert stored_module(read["ema"]).tensors() == {}


def changed(name: str, state: bytes) -> bytes:
    """A pickle that looks up a known name and changes what it got with BUILD."""
    package, _, attribute = name.rpartition(".")
    return b"\x80\x04c" + f"{package}\n{attribute}\n".encode() + state + b"b."


SLOTS = b"N}\x8c\x08__call__N" + b"s\x86"
PERSISTENT = b"\x80\x04\x8c\x01aQ."


@pytest.mark.parametrize(
    "data",
    [
        changed("torch_utils.persistence._reconstruct_persistent_obj", SLOTS),
        changed("torch._utils._rebuild_tensor_v2", SLOTS),
        changed("collections.OrderedDict", SLOTS),
        changed("torch.nn.modules.container.ModuleDict", SLOTS),
        changed("numpy.ndarray", SLOTS),
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93.",
        b"\x80\x04\x8c\x17torch_utils.persistence\x8c\x0e_src_to_module\x93.",
        b"\x80\x04\x8c\x0cdnnlib.util\x8c\x11call_func_by_name\x93.",
        PERSISTENT,
        b"\x80\x04\x82\x01.",
        b"(ios\nsystem\n.",
        b"\x80\x04(cos\nsystem\no.",
        b"\x80\x04K\x01r\xff\xff\xff\x7f.",
        b"\x80\x04B\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
        b"",
        b"nonsense",
        b"\x80\x04}",
    ],
)
def test_changed_names_and_bombs_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bad\.pkl: .*[a-z]\.$"):
        read_persistent(path)


def storage(values: torch.Tensor) -> bytes:
    """What torch writes of a storage inside the pickle of a tensor."""
    whole = torch.storage.TypedStorage(
        wrap_storage=values.untyped_storage(), dtype=values.dtype, _internal=True
    )
    stream = io.BytesIO()
    torch.save(whole, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def test_storages_are_bounded() -> None:
    data = storage(torch.arange(5.0))
    assert torch.equal(load_storage(data), torch.arange(5.0))
    for damaged in (data[:-1], data + b"a", data[:-28] + struct.pack("<q", 6) + data[-20:]):
        with pytest.raises(ValueError, match="another length"):
            load_storage(damaged)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (6,), (1,)),
        (3, (3,), (1,)),
        (-1, (2,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (10**9,)),
        (0, (10**9, 10**9), (0, 0)),
        (0, (2, 2), (1,)),
        (0.0, (2,), (1,)),
    ],
)
def test_tensors_stay_within_their_storage(
    offset: Any, size: Any, stride: Any, tmp_path: Path
) -> None:
    numbers = Called(torch.storage._load_from_bytes, storage(torch.arange(5.0)))
    rebuild = torch._utils._rebuild_tensor_v2
    tensor = Called(rebuild, numbers, offset, size, stride, False, OrderedDict())
    with pytest.raises(InputError, match="damaged"):
        read_persistent(write(tmp_path / "bad.pkl", {"ema": module(weight=tensor)}))


def test_modules_that_contain_one_another_are_refused(tmp_path: Path) -> None:
    outer = module()
    outer.meta["state"]["_modules"]["again"] = container = nn.ModuleDict()
    container._modules = {"inner": container}
    read = read_persistent(write(tmp_path / "a.pkl", outer))
    with pytest.raises(InputError, match="contain one another"):
        stored_module(read).tensors()


def test_other_objects_are_named(tmp_path: Path) -> None:
    old = write(tmp_path / "old.pkl", Stored("Thing", {}, version=5))
    with pytest.raises(InputError, match=r"old\.pkl: expected objects .* version 6, found 5\.$"):
        read_persistent(old)
    with pytest.raises(InputError, match="expected a network"):
        stored_module({})
    with pytest.raises(InputError, match="expected a module with _parameters"):
        stored_module(read_persistent(write(tmp_path / "b.pkl", Stored("Thing", {})))).tensors()
    with pytest.raises(InputError, match="no such file"):
        read_persistent(tmp_path / "none.pkl")
