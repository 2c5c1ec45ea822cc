"""Folders that transformers and diffusers wrote: what is wrong with one is one sentence."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlight.core.memory import shortage
from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.storage.hub import hub_or_cache

HUB_NAME = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"
"""What a name on the Hugging Face hub looks like."""
MOST_LAYERS = 1000
PYTHONS = (
    *(TypeError, AttributeError, LookupError, UnicodeError, ArithmeticError, AssertionError),
    RecursionError,
)
"""Errors of a program that took what it read for sound."""
PYTHONS_WORDS = re.compile("<class|object|argument|invalid literal|NoneType")
TYPE = re.compile(
    r"Field '(\w+)' (?:expected|with value)|Validation error for field '(\w+)': TypeError"
)
"""How a configuration of transformers refuses a field."""


def pretrained(kind: Any, path: Path | str, expected: str, **options: Any) -> Any:
    """What ``kind.from_pretrained`` gives; no code of the folder is run.

    Args:
        kind: A class of transformers or diffusers.
        path: Folder, or name on the hub.
        expected: What ought to be there, for the complaint.
        options: Of ``from_pretrained``.

    Raises:
        InputError: There is no such thing, or it is damaged.
    """
    if not Path(path).exists() and not re.fullmatch(HUB_NAME, str(path)):
        raise InputError(f"{path}: no such file or folder.")
    file = Path(path) / "config.json"
    if file.is_file():
        refuse_endless(read_json(file, infinite=True), str(file))
    with one_sentence(path, expected), silent(), hub_or_cache(path):
        return kind.from_pretrained(path, **options)


def whole(
    kind: Any,
    path: Path | str,
    expected: str,
    unused: tuple[str, ...] = (),
    exact: bool = False,
    **options: Any,
) -> Any:
    """A model of which no weight is missing, which the libraries would draw at random.

    Args:
        kind: A class of transformers or diffusers.
        path: Folder, or name on the hub.
        expected: What ought to be there, for the complaint.
        unused: What the names of weights begin with that may be missing.
        exact: Whether weights that the model does not have are refused too.
        options: Of ``from_pretrained``.

    Raises:
        InputError: There is no such model, it is damaged, or it lacks weights, such as the head
            of a model without one.
    """
    # Or transformers would point to a table that it prints elsewhere.
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = pretrained(kind, path, expected, **options)
    found = {
        "missing": [name for name in report["missing_keys"] if not name.startswith(unused)],
        "of another shape": [str(key[0]) for key in report["mismatched_keys"]],
        "too many": report["unexpected_keys"] if exact else [],
    }
    for wrong, names in found.items():
        if names:
            raise InputError(
                f"{path}: expected the weights of {expected}, found {len(names)} {wrong}, such as "
                f"{min(names)}."
            )
    return model


def refuse_endless(settings: Any, place: str) -> None:
    """Refuse more layers than any model has: the libraries make them one by one, without end.

    Raises:
        InputError: A number of layers or of codebooks is above 1000.
    """
    for name, value in settings.items() if isinstance(settings, dict) else ():
        for each in value if isinstance(value, list) else (value,):
            counted = re.search("layer|codebooks|quantizers|blocks", str(name))
            if counted and isinstance(each, int) and each > MOST_LAYERS:
                raise InputError(f"{place}: {name}: expected at most {MOST_LAYERS}, found {each}.")
            refuse_endless(each, place)


@contextlib.contextmanager
def one_sentence(path: Path | str, expected: str) -> Iterator[None]:
    """Whatever a library raises is that ``path`` is not what was ``expected``.

    Raises:
        InputError: Something was raised in the block.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # as many types as there are ways to be damaged
        raise InputError(f"{path}: expected {expected}{reason(error)}.") from None


def reason(error: Exception) -> str:
    """What a library says, in brackets, or nothing where these are but Python's words."""
    said = " ".join((shortage(error) or str(error)).split())
    if wrong := TYPE.search(said):
        said = f"{wrong[1] or wrong[2]}: found a value of the wrong type"
    elif isinstance(error, PYTHONS) or PYTHONS_WORDS.search(said):
        said = ""
    said = said.partition(". ")[0][:160].rstrip(".")
    return f" ({said})" if said else ""


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No bars and warnings of either library: what is wrong is an error in one sentence here."""
    loaded = (sys.modules.get(f"{name}.utils.logging") for name in ("transformers", "diffusers"))
    logs: list[Any] = [log for log in loaded if log is not None]
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity(log.FATAL)
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, (verbosity, bar) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
