"""Text that users wrote, in whatever editor."""

from pathlib import Path

from kdlight.errors import InputError
from kdlight.storage.files import is_there, require_file


def read_text(path: Path) -> str:
    """A text in UTF-8, without the byte order mark that some editors put in front.

    Raises:
        InputError: The file is missing, or is no UTF-8.
    """
    require_file(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected text in UTF-8, found something else.") from None


def text_beside(path: Path) -> str | None:
    """What the ``.txt`` of the same name says, its ends stripped; None if there is none.

    Raises:
        InputError: It is no file, or no UTF-8.
    """
    beside = path.with_suffix(".txt")
    return read_text(beside).strip() if is_there(beside) else None


def read_lines(path: Path) -> list[str]:
    """Lines of :func:`read_text`, parted by line feeds alone: a text may hold U+2028.

    Raises:
        InputError: The file is missing, or is no UTF-8.
    """
    return read_text(path).removesuffix("\n").split("\n")
