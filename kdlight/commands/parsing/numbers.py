"""Numbers that no setting can mean, whichever key they stand under."""

import math
from typing import Any

from kdlight.errors import InputError

LARGEST = 2**63
"""Whole numbers from here on fit into no tensor."""


def check_numbers(settings: Any, keys: tuple[str, ...] = ()) -> None:
    """Refuse NaN, infinities, and whole numbers of more than 64 bits, anywhere in settings.

    Args:
        settings: As a configuration holds them.
        keys: The keys that lead to them.

    Raises:
        InputError: There is one.
    """
    if isinstance(settings, dict):
        for key, value in settings.items():
            check_numbers(value, (*keys, str(key)))
    elif isinstance(settings, (list, tuple)):
        for index, value in enumerate(settings):
            check_numbers(value, (*keys, str(index)))
    elif isinstance(settings, float) and not math.isfinite(settings):
        raise InputError(f"{'.'.join(keys)}: expected a finite number, found {settings}.")
    elif isinstance(settings, int) and not -LARGEST <= settings < LARGEST:
        bits = settings.bit_length() + 1
        raise InputError(f"{'.'.join(keys)}: expected a number of 64 bits, found one of {bits}.")
