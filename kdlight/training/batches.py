"""What a method is given: named tensors, and a word where one is lacking."""

from typing import Any

from kdlight.errors import InputError


class NamedBatch(dict[str, Any]):
    """A batch that says which part of it a method looks for in vain.

    Args:
        batch: What the data gave.
        reader: Name of the method.
    """

    def __init__(self, batch: dict[str, Any], reader: str) -> None:
        super().__init__(batch)
        self.reader = reader

    def __missing__(self, name: str) -> Any:
        raise InputError(
            f"data: expected batches with {name!r}, which {self.reader} reads, "
            f"found {', '.join(map(repr, self))}."
        )
