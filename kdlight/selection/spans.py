"""Entities in texts: strings, spans of characters, and tags of characters."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """An entity: its first character, the one behind its last, and its type."""

    start: int
    stop: int
    type: str


def aligned(text: str, entities: Iterable[tuple[str, str]]) -> list[Span]:
    """All occurrences of strings with types, which overlap none found before.

    Longer strings first, so that one within another is not cut out of it; what is not in the text
    is left out. An occurrence ends where no letter or digit goes on.

    Args:
        text: The text.
        entities: Strings and their types.
    """
    found: list[Span] = []
    for string, kind in sorted(set(entities), key=lambda each: (-len(each[0]), each)):
        at = text.find(string) if string else -1
        while at >= 0:
            stop = at + len(string)
            whole = not (text[at - 1 : at].isalnum() or text[stop : stop + 1].isalnum())
            if whole and all(stop <= span.start or span.stop <= at for span in found):
                found.append(Span(at, stop, kind))
            at = text.find(string, at + 1)
    return sorted(found)


def tags_of(spans: Iterable[Span], length: int, types: Sequence[str]) -> list[int]:
    """BIO tags of characters: 0 outside, 1 + 2 t where type t begins, 2 + 2 t inside it."""
    tags = [0] * length
    for start, stop, kind in spans:
        number = types.index(kind)
        for place in range(start, min(stop, length)):
            tags[place] = (1 if place == start else 2) + 2 * number
    return tags


def spans_of(tags: Sequence[int], types: Sequence[str]) -> list[Span]:
    """The spans that BIO tags say; an inside behind anything but its own type begins one."""
    found: list[Span] = []
    start, open_type = 0, -1
    for place, tag in enumerate([*tags, 0]):
        kind = (tag - 1) // 2 if tag else -1
        if kind == open_type and tag and tag % 2 == 0:
            continue
        if open_type >= 0:
            found.append(Span(start, place, types[open_type]))
        start, open_type = place, kind
    return found


class Agreement(NamedTuple):
    """Strict agreement of spans, each in [0, 1]: ends and types have to be the same."""

    precision: float
    recall: float
    f1: float


def agreement(found: Sequence[Iterable[Span]], gold: Sequence[Iterable[Span]]) -> Agreement:
    """Micro-averaged precision, recall and F1 of spans, text by text."""
    pairs = [(set(one), set(other)) for one, other in zip(found, gold, strict=True)]
    right = sum(len(one & other) for one, other in pairs)
    said, there = (sum(len(pair[side]) for pair in pairs) for side in range(2))
    precision, recall = right / max(1, said), right / max(1, there)
    return Agreement(precision, recall, 2 * right / max(1, said + there))
