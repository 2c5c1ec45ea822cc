"""Why the parts that settings name could not be built, in one sentence."""

import traceback
from types import FrameType
from typing import Any

from kdlight.commands.parsing.complaints import one_sentence
from kdlight.commands.parsing.signatures import show
from kdlight.core.memory import shortage
from kdlight.errors import InputError

OURS = ("kdlight", "modules", "datamodules")
WORDLESS = (TypeError, AttributeError, LookupError, ArithmeticError)
"""What Python raises where a value is of no use; its words are about our code, not the value."""


def reason_of(error: BaseException) -> str | None:
    """What is wrong with the settings of a part; None if the error is not one of building.

    That is the sentence of the InputError that a chain of exceptions began with. Of any other
    exception in a part of kdlight, the part and, where Python has no words for it, its settings.

    Args:
        error: What building a part raised, maybe by way of jsonargparse.
    """
    first, cause = error, error.__cause__ or error.__context__
    while not isinstance(first, InputError) and cause is not None:
        first, cause = cause, cause.__cause__ or cause.__context__
    if isinstance(first, InputError):
        return str(first)
    if lacking := shortage(first):
        return lacking
    frame = _part_of(first)
    if frame is None:
        return one_sentence(str(error)) if isinstance(error, ValueError) else None
    owner = frame.f_locals.get("self")
    part = frame.f_code.co_name if owner is None else type(owner).__name__
    if isinstance(first, WORDLESS):
        return f"{part}: cannot be built of {_settings(frame)}."
    return f"{part}: {one_sentence(str(first) or type(first).__name__)}"


def _part_of(error: BaseException) -> FrameType | None:
    """The innermost call of a class or function of ours that a file may name."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        name = frame.f_code.co_name
        if module.partition(".")[0] not in OURS or module.startswith("kdlight.commands"):
            continue
        made = name == "__init__" or ("self" not in frame.f_locals and not name.startswith("_"))
        if made and name != "recording_init" and "<" not in name:
            found = frame
    return found


def _settings(frame: FrameType) -> str:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    known: dict[str, Any] = {name: frame.f_locals[name] for name in names if name in frame.f_locals}
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    shown = [f"{name} {show(value)}" for name, value in known.items() if isinstance(value, plain)]
    return ", ".join(shown) or "these settings"
