"""Values inside other values, and what may stand in their place."""

from typing import Any

VALUES: list[Any] = [
    None, "", "x", "ü\u2028\N{PILE OF POO}", "/", "nowhere/at/all", True, False, 0, -1, 1, 2, 0.5,
    -0.5, 10**6, 10**12, 2**63, 10**40, 1e300, float("nan"), float("inf"), -float("inf"), "1e9", [],
    [None], [1, 2], ["x"], {}, {"x": 1}, {"class_path": "os.system", "init_args": {}},
    {"class_path": "kdlight.networks.mlp.ScaleShiftMLP"}, {"class_path": None}, {"class_path": 3},
]  # fmt: skip
"""What may stand where another value ought to."""

Keys = tuple[Any, ...]


def leaves(value: Any, keys: Keys = ()) -> list[Keys]:
    """Where every value is, the parts that hold others too."""
    found = [keys] if keys else []
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found += leaves(item, (*keys, key))
    return found


def replaced(value: Any, keys: Keys, new: Any) -> Any:
    """A copy of ``value`` with another value at a place."""
    if not keys:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[keys[0]] = replaced(value[keys[0]], keys[1:], new)
    return copied


def without(value: Any, keys: Keys) -> Any:
    """A copy of ``value`` that lacks a place."""
    copied = dict(value) if isinstance(value, dict) else list(value)
    if len(keys) == 1:
        del copied[keys[0]]
    else:
        copied[keys[0]] = without(value[keys[0]], keys[1:])
    return copied
