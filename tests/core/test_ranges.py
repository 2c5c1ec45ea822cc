"""The ranges of arguments: the types themselves, and that every part's numbers are held to one."""

import inspect
import typing
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from torch import nn

from kdlight.core.hints import hints_of
from kdlight.core.ranges import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    outside,
)
from kdlight.core.spec import Recorded, build
from kdlight.errors import InputError

PARTS = yaml.safe_load((Path(__file__).parent / "parts.yaml").read_text())
NAMES = [part["class_path"].rpartition(".")[2] for part in PARTS]
NUMBERS: list[Any] = [0, -1, 3, 0.5, -0.5, 1e300, 10**15, float("nan")]
WHOLE = "expected a whole number"


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, PositiveInt, None),
        (0, PositiveInt, f"{WHOLE} above 0, found 0"),
        (-1, NonNegativeInt, f"{WHOLE} of at least 0, found -1"),
        (0, NonNegativeInt, None),
        (float("nan"), PositiveFloat, "expected a finite number, found nan"),
        (-0.5, NonNegativeFloat, "expected a number of at least 0, found -0.5"),
        (1.5, Probability, "expected a number from 0 to 1, found 1.5"),
        (None, PositiveInt | None, None),
        (0, PositiveInt | None, f"{WHOLE} above 0, found 0"),
        ([1, 0], Sequence[PositiveInt], f"{WHOLE} above 0, found 0"),
        ([1, 0], PositiveInt | Sequence[PositiveInt], f"{WHOLE} above 0, found 0"),
        (0, PositiveInt | Sequence[PositiveInt], f"{WHOLE} above 0, found 0"),
        (0, PositiveInt | int, None),
        ({"a": -1.0}, dict[str, PositiveFloat], "expected a number above 0, found -1.0"),
        ("x", PositiveInt | Literal["x"], None),
        (True, PositiveInt, None),
        (-1, int, None),
        ([[1], [-1]], Sequence[Sequence[NonNegativeInt]], f"{WHOLE} of at least 0, found -1"),
    ],
)
def test_outside(value: Any, hint: Any, expected: str | None) -> None:
    assert outside(value, hint) == expected


def test_a_recorded_part_is_held_to_its_ranges() -> None:
    class Part(Recorded):
        def __init__(self, width: PositiveInt = 3, share: Probability = 0.5) -> None: ...

    Part(1, share=1.0)
    with pytest.raises(InputError, match=r"^width: expected a whole number above 0, found 0\.$"):
        Part(0)


def _numeric(hint: Any) -> bool:
    return hint in (int, float) or any(map(_numeric, typing.get_args(hint)))


def _cases(part: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every number of a part, and every list of them, with what it may not be able to hold."""
    module, _, name = part["class_path"].rpartition(".")
    given = part.get("init_args") or {}
    cls = getattr(import_module(module), name)
    for key, hint in hints_of(cls.__init__).items():
        if not _numeric(hint):
            continue
        default = inspect.signature(cls).parameters[key].default
        value = given.get(key, default)
        if isinstance(value, (list, tuple)):
            yield from ((key, [number, *value[1:]]) for number in NUMBERS)
            yield from ((key, wrong) for wrong in ([], [*value, 1], None))
        else:
            yield from ((key, number) for number in NUMBERS)
            yield key, []


@pytest.mark.parametrize("part", PARTS, ids=NAMES)
def test_a_number_is_legal_or_refused_in_one_sentence(part: dict[str, Any]) -> None:
    given = part.get("init_args") or {}
    build(part)
    wrong = []
    for key, value in _cases(part):
        changed = {**part, "init_args": {**given, key: value}}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                made = build(changed)
            except InputError as error:
                sentence = str(error)
                if key.rstrip("s") not in sentence and "memory" not in sentence:
                    wrong.append(f"{key}={value}: {sentence}")
            except Warning as error:
                wrong.append(f"{key}={value}: {error}")
            else:
                wrong += [f"{key}={value}: {fault}" for fault in _faults(made)]
    assert wrong == []


def _faults(made: Any) -> Iterator[str]:
    """What is odd in a part that was built of an odd number."""
    if not isinstance(made, nn.Module):
        return
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            yield f"{name} is not finite"
    yield from (f"{name} is empty" for name, each in made.named_parameters() if not each.numel())
