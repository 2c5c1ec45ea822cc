"""Objects that remember how they were built, so that a file can hold them without pickle.

A *spec* is what a YAML config would say: ``{"class_path": ..., "init_args": {...}}``. Networks,
denoisers, grids and generators record theirs when constructed; :func:`spec_of` writes it down as
JSON-ready data and :func:`build` turns it back into an object. Weights travel beside it.
"""

import functools
import importlib
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from kdlight.core.hints import misfit, out_of_range
from kdlight.core.memory import shortage
from kdlight.core.moved import current
from kdlight.core.trust import is_trusted
from kdlight.errors import InputError


class Recorded:
    """Mix-in that records the arguments of the outermost ``__init__`` call.

    Raises:
        InputError: One is out of the range that it is declared with (:mod:`kdlight.core.ranges`).
    """

    _init_args: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        original = cls.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def recording_init(self: Any, *args: Any, **kwargs: Any) -> None:
            if "_init_args" not in self.__dict__:
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                arguments = dict(list(bound.arguments.items())[1:])
                for name, parameter in signature.parameters.items():
                    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                        arguments.update(arguments.pop(name, {}))
                if wrong := out_of_range(type(self), arguments):
                    raise InputError(f"{wrong}.")
                object.__setattr__(self, "_init_args", arguments)
            original(self, *args, **kwargs)

        cls.__init__ = recording_init  # type: ignore[method-assign]


Part = TypeVar("Part", bound=Recorded)


def spec_of(value: Any) -> Any:
    """JSON-ready description of ``value``: a recorded object, a container, a number, a tensor.

    Raises:
        TypeError: The value holds something that no file can describe.
    """
    if isinstance(value, Recorded):
        # Through the live object, so that a part that was swapped or copied is described as it is.
        arguments = {
            name: getattr(value, name)
            if isinstance(argument, Recorded) and hasattr(value, name)
            else argument
            for name, argument in value._init_args.items()
        }
        # A sharded module is of a class that torch made of its own.
        cls = next(c for c in type(value).__mro__ if not c.__module__.startswith("torch."))
        return {
            "class_path": f"{cls.__module__}.{cls.__qualname__}",
            "init_args": {name: spec_of(argument) for name, argument in arguments.items()},
        }
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): spec_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [spec_of(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot describe a {type(value).__name__} in a file")


def rebuilt(value: Part, **changes: Any) -> Part:
    """A new object with the arguments of a recorded one, but for ``changes``; without weights."""
    return type(value)(**{**value._init_args, **changes})


def build(spec: Any) -> Any:
    """Construct what :func:`spec_of` described, of kdlight or of a package that is trusted.

    Raises:
        InputError: The spec names a class of another package, or one that does not exist.
    """
    if isinstance(spec, dict) and "class_path" in spec:
        path = current(str(spec["class_path"]))
        module_name, _, class_name = path.rpartition(".")
        package = module_name.partition(".")[0]
        if not is_trusted(package):
            raise InputError(
                f"class_path {path!r}: expected a class of kdlight; if you trust the package "
                f"{package or path!r} to run code, say so with --trust {package or path}."
            )
        try:
            cls = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError):
            raise InputError(f"class_path {path!r}: {package} has no such class.") from None
        if not (inspect.isclass(cls) and issubclass(cls, Recorded)):
            raise InputError(f"class_path {path!r}: not a part that can be built from a file.")
        given = spec.get("init_args", {})
        if not isinstance(given, dict):
            raise InputError(f"class_path {path!r}: init_args: expected names and values.")
        arguments = {name: build(item) for name, item in given.items()}
        try:
            inspect.signature(cls).bind(**arguments)
        except TypeError as error:
            raise InputError(f"class_path {path!r}: {error}.") from None
        if wrong := misfit(cls, arguments):
            raise InputError(f"class_path {path!r}: {wrong}.")
        try:
            return cls(**arguments)
        except InputError as error:
            raise InputError(f"class_path {path!r}: {error}") from None
        except Exception as error:  # whatever a number out of range leads to
            reason = shortage(error) or f"cannot be built of {_shown(arguments)}."
            raise InputError(f"class_path {path!r}: {reason}") from None
    if isinstance(spec, dict):
        return {key: build(item) for key, item in spec.items()}
    if isinstance(spec, list):
        return [build(item) for item in spec]
    return spec


def _shown(arguments: Mapping[str, Any]) -> str:
    """Arguments as a sentence can hold them."""
    plain = (bool, int, float, str, list, type(None))
    known = (f"{name} {item!r}" for name, item in arguments.items() if isinstance(item, plain))
    return textwrap.shorten(", ".join(known) or "its init_args", 300, placeholder="...")
