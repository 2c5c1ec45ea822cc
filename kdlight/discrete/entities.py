"""A language of short texts whose entities are known: what teachers that label are tested on."""

import random

from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.core.spec import Recorded

TYPES = ("person", "place")
TEMPLATES = (
    "{person} said no",
    "we met {person} today",
    "{person} lives in {place}",
    "the road to {place} is long",
    "it rains in {place} again",
    "{person} and {person} are late",
    "from {place} to {place} by train",
    "letters for {person} came",
    "nobody was there in time",
    "{person} left {place}",
)
SYLLABLES = (
    *("ba", "do", "ki", "lu", "me", "no", "ra", "si", "tu", "ve", "za", "go", "pi", "he", "wa"),
    "jo",
)
ALPHABET = "abcdefghijklmnopqrstuvwxyz "


class EntityLanguage(Recorded):
    """Texts made of templates and invented names, of which context alone tells the type.

    Args:
        names: Names of each type in texts to learn from.
        unseen: Names of each type in held-out texts, which are others.
        seed: Seed of the names.
    """

    def __init__(
        self, names: PositiveInt = 60, unseen: PositiveInt = 60, seed: NonNegativeInt = 0
    ) -> None:
        source = random.Random(seed)
        count = len(TYPES) * (names + unseen)
        found: dict[str, None] = {}
        while len(found) < count:
            found["".join(source.choices(SYLLABLES, k=source.choice((2, 2, 3))))] = None
        listed = list(found)
        self.types = list(TYPES)
        self.names: dict[bool, dict[str, list[str]]] = {}
        for heldout, size in ((False, names), (True, unseen)):
            self.names[heldout] = {}
            for kind in TYPES:
                self.names[heldout][kind], listed = listed[:size], listed[size:]
        self.type_of = {
            name: kind
            for parts in self.names.values()
            for kind, those in parts.items()
            for name in those
        }

    def draw(self, count: int, seed: int, heldout: bool = False) -> list[str]:
        """Texts.

        Args:
            count: How many.
            seed: Seed of the draws.
            heldout: Whether their names are the unseen ones.
        """
        source = random.Random(seed)
        texts = []
        for _ in range(count):
            text = source.choice(TEMPLATES)
            for kind in TYPES:
                while f"{{{kind}}}" in text:
                    name = source.choice(self.names[heldout][kind])
                    text = text.replace(f"{{{kind}}}", name, 1)
            texts.append(text)
        return texts

    def entities(self, text: str) -> list[tuple[str, str]]:
        """The names in a text with their types."""
        return [(word, self.type_of[word]) for word in text.split() if word in self.type_of]
