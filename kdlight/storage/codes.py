"""Codes that any program made, such as a language model of speech: read, and checked by a codec."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.json_text import json_lines
from kdlight.storage.text import read_lines

SUFFIXES = (".npz", ".npy", ".pt", ".jsonl")
"""Files of codes."""


class NamedCodes(NamedTuple):
    """Codes of one utterance, not checked yet.

    Attributes:
        name: Of the utterance; a path without suffix.
        codes: Numbers of any kind and shape.
        place: Where they were found, for messages.
    """

    name: str
    codes: Tensor
    place: str


def read_codes(path: Path) -> list[NamedCodes]:
    """The utterances of a file.

    ``.npy``, ``.npz`` and ``.pt`` hold one: an array, or a mapping with ``codes``. A ``.jsonl``
    holds one a line: nested lists, or an object with ``codes`` and, if it has one, its ``id``;
    their names are ``<file>/<id>``, or ``<file>/<line>`` without. Nothing in a file is executed.

    Raises:
        InputError: The file is missing, damaged or of another kind, or an id is no name of a file,
            or is there twice.
    """
    require_file(path)
    if path.suffix == ".jsonl":
        return list(_lines(path))
    try:
        found: Any
        if path.suffix == ".pt":
            found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = np.load(path, allow_pickle=False)
            if path.suffix == ".npz":
                found = dict(found)
    except Exception:  # every way a file can be damaged raises another type
        raise _no_codes(path) from None
    if isinstance(found, dict):
        found = found.get("codes")
    if not isinstance(found, (Tensor, np.ndarray)):
        raise _no_codes(path)
    return [NamedCodes(path.stem, _tensor(found, str(path)), str(path))]


def checked(codes: Tensor, n_q: int, codebook_size: int, place: str) -> Tensor:
    """Codes (n, F) int64 that a codec can decode.

    Args:
        codes: (n, F), or (1, n, F); of a codec of one level also (F,).
        n_q: Levels of the codec.
        codebook_size: Codes of a level.
        place: Where they come from, for the complaint.

    Raises:
        InputError: They are no whole numbers, of another shape, too many levels, or out of range.
    """
    found = f"{codes.dtype} {tuple(codes.shape)}"
    whole = not (codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool)
    if codes.ndim == 3 and len(codes) == 1:
        codes = codes[0]
    if codes.ndim == 1 and n_q == 1:
        codes = codes[None]
    if not whole or codes.ndim != 2 or not 1 <= len(codes) <= n_q or not codes.numel():
        turned = whole and codes.ndim == 2 and len(codes) > n_q >= codes.shape[1] > 0
        raise InputError(
            f"{place}: expected whole numbers (n, F) of 1 to {n_q} levels, found {found}"
            f"{', as if frames came first' if turned else ''}."
        )
    codes = codes.long()
    wrong = (codes < 0) | (codes >= codebook_size)
    if wrong.any():
        level, frame = (int(index) for index in wrong.nonzero()[0])
        raise InputError(
            f"{place}: expected numbers from 0 to {codebook_size - 1}, "
            f"found {int(codes[level, frame])} at level {level + 1}, frame {frame}."
        )
    return codes


def _lines(path: Path) -> Iterator[NamedCodes]:
    names = set()
    for place, entry in json_lines(read_lines(path), path):
        given = entry if isinstance(entry, dict) else {"codes": entry}
        name = str(given.get("id", place.rpartition(" ")[2]))
        if Path(name).is_absolute() or ".." in Path(name).parts or not name.strip():
            raise InputError(f"{place}: id: expected a name of a file, found {name!r}.")
        if name in names:
            raise InputError(f"{place}: expected an id of its own, found {name!r} again.")
        names.add(name)
        yield NamedCodes(f"{path.stem}/{name}", _tensor(given.get("codes"), place), place)
    if not names:
        raise InputError(f"{path}: expected codes, a line for each utterance, found none.")


def _tensor(values: Any, place: str) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{place}: expected codes, lists of whole numbers and all as long, "
            "found something else."
        ) from None


def _no_codes(path: Path) -> InputError:
    return InputError(
        f"{path}: expected an array of codes, or one called codes, found something else."
    )
