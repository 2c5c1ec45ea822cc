"""Whether values of files are of the types that arguments are declared with."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from kdlight.core.hints import fits, misfit
from kdlight.core.spec import build
from kdlight.errors import InputError
from kdlight.networks.mlp import ScaleShiftMLP


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True), (True, int, False), (1.5, int, False), (None, int, False),
        (1, float, True), ("1", float, False), (None, float | None, True),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False),
        ([1, 2], Sequence[int], True), ((1, 2), Sequence[int], True), ("12", Sequence[int], False),
        ([1, "a"], tuple[int, str], True), ([1, "a"], tuple[int, ...], False),
        ([1, None], list[int], False), (3, Sequence[int], False),
        ({"a": 1}, dict[str, int], True), ([], dict[str, int], False),
        (object(), Any, True), (3, ScaleShiftMLP, False), (3, str, False), ("x", str | int, True),
    ],
)  # fmt: skip
def test_fits(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_a_misfit_is_named() -> None:
    assert misfit(ScaleShiftMLP, {"shape": [1, 8, 8], "width": None}) == (
        "width: expected a whole number above 0, found null"
    )
    assert misfit(ScaleShiftMLP, {"shape": [1, 8, 8], "width": 3}) is None


PATH = "kdlight.networks.mlp.ScaleShiftMLP"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"shape": None}, "shape: expected"),
        ({"shape": [1, 8, 8], "width": "x"}, "width: expected a whole number above 0, found 'x'"),
        ({"shape": [1, 8, 8], "width": -5}, "width: expected a whole number above 0, found -5"),
        ({"shape": [10**9, 10**9]}, "memory: "),
        ([], "init_args: expected names and values"),
    ],
)
def test_a_spec_that_cannot_be_built(arguments: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        build({"class_path": PATH, "init_args": arguments})
    assert PATH in str(caught.value)
