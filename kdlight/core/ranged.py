"""Classes that are built of settings and written to no file: their numbers are held to ranges."""

import functools
import inspect
from typing import Any

from kdlight.core.hints import hints_of
from kdlight.core.ranges import outside
from kdlight.errors import InputError


class Ranged:
    """Mix-in of methods, data modules and callbacks: checks the numbers of every ``__init__``.

    That of a base class too, so a range is declared where an argument is used. What goes into
    files is :class:`~kdlight.core.spec.Recorded` instead.

    Raises:
        InputError: A number is out of the range that it is declared with
            (:mod:`kdlight.core.ranges`).
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        original = cls.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def checking_init(self: Any, *args: Any, **kwargs: Any) -> None:
            hints = hints_of(original)
            for name, value in signature.bind(self, *args, **kwargs).arguments.items():
                if wrong := outside(value, hints.get(name)):
                    raise InputError(f"{name}: {wrong}.")
            original(self, *args, **kwargs)

        cls.__init__ = checking_init  # type: ignore[method-assign]
