"""Feature rows in bounded memory: a fixed random subset, the same in any order and on any ranks."""

import hashlib

import numpy as np
import torch
from torch import Tensor

MAX_ROWS = 10_000
"""Most rows of a set that figures of pairs compare, and that floors are drawn from."""

_PARTS = 2  # of 24 bits, which float32 holds exactly


def keyed(rows: Tensor) -> Tensor:
    """Rows (N, F) as float32 with their keys behind them, (N, F + 2).

    A key is a hash of the row's own bytes: uniform, and not dependent on where or when the row
    was seen.
    """
    values = rows.float()
    host = values.cpu().numpy()
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=6).digest() for row in host)
    parts = np.frombuffer(digests, np.uint8).reshape(-1, _PARTS, 3).astype(np.float32)
    keys = torch.from_numpy(parts @ np.array([65536, 256, 1], np.float32))
    return torch.cat([values, keys.to(values.device)], dim=1)


def subset(keyed_rows: Tensor, most: int) -> Tensor:
    """The ``most`` keyed rows of least key, in the order of their keys; all, in theirs, if fewer.

    A uniform draw without replacement from the distinct rows, in which the subset of a union is
    the subset of the parts' subsets: so batches and ranks can be cut one by one.
    """
    if len(keyed_rows) <= most:
        return keyed_rows
    high, low = keyed_rows[:, -_PARTS:].double().unbind(1)
    return keyed_rows[torch.argsort(high * 2**24 + low)[:most]]


def unkeyed(keyed_rows: Tensor) -> Tensor:
    """The rows without their keys, (N, F)."""
    return keyed_rows[:, :-_PARTS]


class RowSample:
    """At most ``most`` of the rows that are added; holds twice as many at a time.

    Args:
        most: Size of the subset.
    """

    def __init__(self, most: int = MAX_ROWS) -> None:
        self.most = most
        self._parts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Add rows (N, F)."""
        self._parts = extended(self._parts, rows, self.most)

    def rows(self) -> Tensor:
        """The subset, (at most ``most``, F), float32.

        Raises:
            IndexError: Nothing was added.
        """
        return unkeyed(subset(torch.cat(self._parts), self.most))


def extended(parts: list[Tensor], rows: Tensor, most: int) -> list[Tensor]:
    """Parts of keyed rows with ``rows`` (N, F) behind them, cut to ``most`` when twice as many.

    Parts double in size from the last to the first, so that there are few: hundreds of small ones,
    each allocated between two batches, would keep the memory of those batches from being reused.
    """
    parts = [*parts, keyed(rows)]
    if sum(len(part) for part in parts) >= 2 * most:
        return [subset(torch.cat(parts), most)]
    while len(parts) > 1 and len(parts[-2]) <= len(parts[-1]):
        parts = [*parts[:-2], torch.cat(parts[-2:])]
    return parts
