"""JSON that users have: read alike wherever it stands, as a file, in a line, or inside a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlight.errors import InputError


def parse_json(text: str | bytes, infinite: bool = False, any_number: bool = False) -> Any:
    """The value that a text means.

    Args:
        text: JSON.
        infinite: Whether it may hold infinities, as the schedulers of diffusers do.
        any_number: Whether it may hold NaN too, as corpora do in columns that nobody reads.

    Raises:
        InputError: It is no JSON or nested too deep, has a key twice, a number that JSON does not
            know or that is too long, or text with half a character, which no tokenizer takes.
    """

    def number(said: str) -> float:
        if any_number or (infinite and said != "NaN"):
            return float(said)
        raise InputError(f"expected numbers that JSON knows, found {said}.")

    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=number)
        if (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower():  # type: ignore[operator]
            json.dumps(found, ensure_ascii=False).encode()
    except InputError:
        raise
    except UnicodeEncodeError as error:
        half = json.dumps(error.object[error.start])
        raise InputError(f"expected text, found {half}, which is half a character.") from None
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number too long, or nested too deep
        raise InputError("expected JSON, found something else.") from None
    return found


def parse_line(line: str | bytes, place: str) -> Any:
    """:func:`parse_json` of one of many lines, with any numbers.

    Args:
        line: JSON.
        place: Where it stands, for the complaint.

    Raises:
        InputError: As :func:`parse_json`.
    """
    try:
        return parse_json(line, any_number=True)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def json_lines(lines: list[str], path: Path) -> Iterator[tuple[str, Any]]:
    """The values of JSON lines and the place of each, empty lines left out.

    Args:
        lines: Of the file.
        path: The file.

    Raises:
        InputError: As :func:`parse_json`.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{path}: line {number}"
            yield place, parse_line(line, place)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"the key {key!r} is given twice.")
        found[key] = value
    return found
