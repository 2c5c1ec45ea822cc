"""Pickles in the layout of NVlabs' persistence mechanism, written with stand-ins of our own.

A decorated object pickles as a call of ``torch_utils.persistence._reconstruct_persistent_obj``
with the source of its module, its class's name and its attributes. Modules that are torch's own,
such as ``ModuleDict``, pickle as torch does it.
"""

import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

SOURCE = "raise SystemExit('the source in the file was run')\n"


@contextmanager
def foreign_modules() -> Iterator[None]:
    """The modules that such a pickle names, importable while it is written."""
    persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
    util.EasyDict = EasyDict
    added = {
        "torch_utils": ModuleType("torch_utils"),
        "torch_utils.persistence": persistence,
        "dnnlib": ModuleType("dnnlib"),
        "dnnlib.util": util,
    }
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def _reconstruct_persistent_obj(meta: Any) -> None:
    raise AssertionError("a pickle was read without restriction")


class EasyDict(dict[str, Any]):
    """A dictionary of a class of the file."""


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
EasyDict.__module__ = "dnnlib.util"


class Stored:
    """Pickles as a decorated object does."""

    def __init__(self, class_name: str, state: Mapping[str, Any], **meta: Any) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": class_name,
            "state": dict(state),
            **meta,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


class Called:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def stored(
    network: nn.Module,
    class_name: str,
    arguments: Mapping[str, Any],
    taps: tuple[int, ...] = (1, 1),
    filters: bool = True,
) -> Stored:
    """A network in the layout of a file, with the filters that EDM's originals keep as buffers."""
    state = _state(network, taps if filters else ())
    return Stored(class_name, {**state, "_init_args": (), "_init_kwargs": dict(arguments)})


def _state(module: nn.Module, taps: tuple[int, ...]) -> dict[str, Any]:
    buffers = {
        name: value
        for name, value in module._buffers.items()
        if name not in module._non_persistent_buffers_set
    }
    resampling = getattr(module, "resample", None)
    children = OrderedDict(
        (name, child)
        for name, child in module._modules.items()
        if child is not None and (child.state_dict() or isinstance(child, nn.ModuleDict))
    )
    if taps and isinstance(resampling, nn.Module) and not isinstance(resampling, nn.Identity):
        line = torch.tensor(taps, dtype=torch.float32)
        kernel = (torch.outer(line, line) / line.sum() ** 2)[None, None]
        if isinstance(module, nn.Conv2d):
            buffers["resample_filter"] = kernel
        else:
            # A skip connection without a convolution has nothing but the filter.
            children.setdefault("skip", nn.Module())
            for name in ("conv0", "skip"):
                children[name].register_buffer("resample_filter", kernel)
    return {
        "training": False,
        "_parameters": OrderedDict(module._parameters),
        "_buffers": OrderedDict(buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": OrderedDict((name, _part(child, taps)) for name, child in children.items()),
        "skip_scale": np.sqrt(0.5),
    }


def _part(module: nn.Module, taps: tuple[int, ...]) -> Any:
    state = _state(module, taps)
    if isinstance(module, nn.ModuleDict):
        container = nn.ModuleDict()
        container._modules = state["_modules"]
        return container
    return Stored(type(module).__name__, {**state, "_init_args": (), "_init_kwargs": {}})


def preconditioned(inner: Stored, class_name: str, **attributes: Any) -> Stored:
    """A network inside its preconditioner."""
    state = {
        "_parameters": OrderedDict(),
        "_buffers": OrderedDict(),
        "_modules": OrderedDict(model=inner),
        "_init_args": (),
        "_init_kwargs": {},
        **attributes,
    }
    return Stored(class_name, state)


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    with foreign_modules(), path.open("wb") as file:
        pickle.dump(content, file, protocol)
    return path
