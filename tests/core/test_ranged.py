"""Methods, data modules and callbacks refuse every number that is out of its declared range."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import datamodules
import kdlight.callbacks
import modules
from kdlight.core.hints import hints_of
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import PositiveInt, Range
from kdlight.errors import InputError


def _classes() -> Iterator[type]:
    for package in (kdlight.callbacks, modules, datamodules):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for _, cls in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
                if cls.__module__ == found.name and issubclass(cls, Ranged):
                    yield cls


def _range(hint: Any) -> Range | None:
    """The range of an argument that may be one number."""
    if typing.get_origin(hint) is typing.Annotated:
        return next((each for each in typing.get_args(hint)[1:] if isinstance(each, Range)), None)
    parts = typing.get_args(hint) if type(None) in typing.get_args(hint) else ()
    return next((found for part in parts if (found := _range(part))), None)


CASES = [
    (cls, name, found)
    for cls in _classes()
    if "__init__" in vars(cls)
    for name, hint in hints_of(cls.__init__).items()
    if (found := _range(hint))
]


@pytest.mark.parametrize(("cls", "name", "declared"), CASES)
def test_a_number_out_of_its_range_is_refused_first(cls: type, name: str, declared: Range) -> None:
    required = {
        key: None
        for key, each in inspect.signature(cls).parameters.items()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    }
    for wrong in (declared.low - (not declared.above), float("nan"), float("-inf")):
        with pytest.raises(InputError, match=rf"^{name}: expected a .*, found {wrong:g}"):
            cls(**{**required, name: wrong})


def test_there_are_many_such_numbers_in_every_package() -> None:
    packages = [cls.__module__.partition(".")[0] for cls, _, _ in CASES]
    assert min(packages.count(name) for name in ("kdlight", "modules", "datamodules")) > 8


def test_the_range_of_a_base_holds_for_what_is_built_on_it() -> None:
    class Base(Ranged):
        def __init__(self, width: PositiveInt) -> None: ...

    class Own(Base):
        def __init__(self, width: int = 3, **others: Any) -> None:
            super().__init__(width)

    Own(1)
    with pytest.raises(InputError, match=r"^width: expected a whole number above 0, found 0\.$"):
        Own(0)
