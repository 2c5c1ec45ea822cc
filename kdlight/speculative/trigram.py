"""A draft out of statistics: which token stood behind which two (ADED, arXiv:2407.12021)."""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from kdlight.speculative.drafts import Tree

Pair = tuple[int, int]


class TrigramDrafter:
    """A table of three tokens that learns while it drafts, and needs no training.

    ``(a, b) -> {c: weight}``: shares of a corpus at first, if there is one; whenever tokens are
    written, every three of the last ``window`` weigh ``boost`` more, up to ``cap``. A draft is the
    tree of the continuations with the highest product of shares. The release looks for them by 150
    random walks; here they are found exactly, which is what such walks tend to. Its draws at
    temperatures above 0 are not the target's law; :class:`~kdlight.speculative.drafts.Tree` is
    exact at all.

    Args:
        nodes: Tokens of a tree.
        depth: How far ahead it looks.
        successors: Tokens that are kept behind a pair, those of most weight.
        boost: Weight of what is written; 0 for a table that stays as its corpus made it.
        cap: The most that a token may weigh.
        window: Last tokens that are learnt from.
        pairs: Pairs that are kept, those used last.
    """

    def __init__(
        self,
        nodes: int = 24,
        depth: int = 4,
        successors: int = 12,
        boost: float = 0.04,
        cap: float = 3.0,
        window: int = 16,
        pairs: int = 200_000,
    ) -> None:
        self.nodes, self.depth, self.successors = nodes, depth, successors
        self.boost, self.cap, self.window, self.pairs = boost, cap, window, pairs
        self.table: dict[Pair, dict[int, float]] = {}
        self.learnt = 0

    def read(self, rows: Iterable[Sequence[int]]) -> None:
        """Fill the table with the shares of a corpus."""
        counts: dict[Pair, dict[int, int]] = {}
        for row in rows:
            for a, b, c in zip(row, row[1:], row[2:], strict=False):
                behind = counts.setdefault((a, b), {})
                behind[c] = behind.get(c, 0) + 1
        for pair, behind in counts.items():
            total = sum(behind.values())
            self.table[pair] = {c: count / total for c, count in behind.items()}
            self._bound(pair)

    def begin(self) -> None:
        """A new row begins; what was learnt of others stays."""
        self.learnt = 0

    def propose(self, row: Sequence[int], most: int, uniform: Tensor) -> Tree:
        """The most likely continuations, after learning from what was written since."""
        if len(row) > self.learnt:
            self._learn(row[-self.window :])
            self.learnt = len(row)
        return self._tree(row[-2:], min(self.depth, most))

    def state(self) -> list[tuple[int, int, int, float]]:
        """The table, as rows of numbers."""
        return [
            (*pair, c, weight)
            for pair, behind in self.table.items()
            for c, weight in behind.items()
        ]

    def load(self, state: Iterable[Any]) -> None:
        """Take a table that :meth:`state` gave."""
        self.table = {}
        for a, b, c, weight in state:
            self.table.setdefault((int(a), int(b)), {})[int(c)] = float(weight)

    def _learn(self, row: Sequence[int]) -> None:
        if not self.boost:
            return
        for a, b, c in zip(row, row[1:], row[2:], strict=False):
            behind = self.table.pop((a, b), {})
            behind[c] = min(behind.get(c, 0.0) + self.boost, self.cap)
            self.table[a, b] = behind  # the newest pairs stand last
            self._bound((a, b))
        while len(self.table) > self.pairs:
            del self.table[next(iter(self.table))]

    def _bound(self, pair: Pair) -> None:
        behind = self.table[pair]
        if len(behind) > self.successors:
            best = heapq.nlargest(self.successors, behind.items(), key=lambda each: each[1])
            self.table[pair] = dict(best)

    def _tree(self, last: Sequence[int], depth: int) -> Tree:
        """The ``nodes`` paths of highest product, best first."""
        tokens: list[int] = []
        parents: list[int] = []
        if len(last) < 2 or not depth:
            return Tree(tokens, parents)
        waiting: list[tuple[float, int, int, int, Pair]] = []

        def open_behind(parent: int, level: int, pair: Pair, share: float) -> None:
            behind = self.table.get(pair, {})
            total = sum(behind.values())
            for c, weight in behind.items():
                heapq.heappush(waiting, (-share * weight / total, level, c, parent, pair))

        open_behind(-1, 1, (last[0], last[1]), 1.0)
        while waiting and len(tokens) < self.nodes:
            share, level, token, parent, pair = heapq.heappop(waiting)
            tokens.append(token)
            parents.append(parent)
            if level < depth:
                open_behind(len(tokens) - 1, level + 1, (pair[1], token), -share)
        return Tree(tokens, parents)
