"""Values that come from Python: as strict as the words of the command line, as clear."""

import argparse
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kdlight.commands.parsing.arguments import SEEDS
from kdlight.commands.parsing.arguments import device as device_of
from kdlight.core.trust import trust
from kdlight.errors import InputError


def device_named(name: str | torch.device) -> torch.device:
    """A device of this machine.

    Raises:
        InputError: It is not there.
    """
    try:
        return device_of(str(name))
    except argparse.ArgumentTypeError as error:
        raise InputError(f"device: {error}.") from None


def whole_of(value: Any, name: str, least: int | None = None) -> int:
    """``value`` as a whole number; 16000.0 is one.

    Raises:
        InputError: It is none, or below ``least``.
    """
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, bool):
        raise InputError(f"{name}: expected a whole number, found {value!r}.")
    try:
        number = operator.index(number)
    except TypeError:
        raise InputError(f"{name}: expected a whole number, found {value!r}.") from None
    if least is not None and number < least:
        raise InputError(f"{name}: expected a number above {least - 1}, found {number}.")
    return number


def seed_of(value: Any) -> int:
    """``value`` as a seed.

    Raises:
        InputError: It is no whole number from 0 to 2^63 - 1.
    """
    number = whole_of(value, "seed")
    if number not in SEEDS:
        raise InputError(f"seed: expected a number from 0 to 2^63 - 1, found {number}.")
    return number


def path_of(value: Any, name: str) -> Path:
    """``value`` as a path.

    Raises:
        InputError: It is neither a text nor a path.
    """
    if not isinstance(value, (str, Path)):
        raise InputError(f"{name}: expected a path, found {value!r}.")
    return Path(value)


def text_of(value: Any, name: str) -> str | None:
    """``value``, a text or None.

    Raises:
        InputError: It is something else.
    """
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name}: expected a text, found {value!r}.")
    return value


def trust_all(packages: Any) -> None:
    """Trust a package, or several; see :func:`kdlight.core.trust.trust`.

    Raises:
        InputError: It is no name of a package, nor several.
    """
    if isinstance(packages, str) or not isinstance(packages, Iterable):
        packages = [packages]
    trust(*packages)
