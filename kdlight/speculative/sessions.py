"""A row that a model reads piece by piece, and partly forgets again."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import AutoregressiveModel, NextTokenModel


@runtime_checkable
class ReadsOn(Protocol):
    """A causal network that remembers keys and values of what it has read."""

    def memory(self) -> Any:
        """What it remembers before it has read anything."""
        ...

    def read_on(self, tokens: Tensor, places: Tensor, sees: Tensor, memory: Any) -> Tensor:
        """Logits (1, n, V) of what follows each of ``tokens`` (1, n), which it remembers."""
        ...

    def keep(self, memory: Any, places: Tensor) -> None:
        """Forget all tokens read but those at ``places`` (n,)."""
        ...


class Session(Protocol):
    """A row of tokens that a model has read, the token before all others among them."""

    @property
    def count(self) -> int:
        """How many tokens it has read."""
        ...

    def read(self, tokens: Sequence[int], parents: Sequence[int] | None = None) -> Tensor:
        """Log-probabilities of the token behind each of ``tokens``, (n, V) logits.

        Args:
            tokens: Tokens that continue the row, or a tree of them.
            parents: Which of ``tokens`` stands before each, -1 for the row itself; None where each
                stands behind the one before.
        """
        ...

    def keep(self, places: Sequence[int]) -> None:
        """Forget all tokens read but those at ``places``, which make a row of their own."""
        ...


class MemorySession:
    """Of a network that remembers: a token is computed once.

    Args:
        network: The network.
        device: Where it is.
    """

    def __init__(self, network: ReadsOn, device: torch.device) -> None:
        self.network, self.device = network, device
        self.memory = network.memory()
        self.count = 0

    def read(self, tokens: Sequence[int], parents: Sequence[int] | None = None) -> Tensor:
        before = range(-1, len(tokens) - 1) if parents is None else parents
        own = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
        depths: list[int] = []
        for number, parent in enumerate(before):
            if parent >= 0:
                own[number] = own[parent]
            own[number, number] = True
            depths.append(0 if parent < 0 else depths[parent] + 1)
        sees = torch.cat([torch.ones(len(tokens), self.count, dtype=torch.bool), own], dim=1)
        places = self.count + torch.tensor(depths)
        row = torch.tensor([list(tokens)], device=self.device)
        where = (places.to(self.device), sees.to(self.device))
        logits = self.network.read_on(row, *where, self.memory)
        self.count += len(tokens)
        return logits[0]

    def keep(self, places: Sequence[int]) -> None:
        if len(places) < self.count:
            self.network.keep(self.memory, torch.tensor(list(places), device=self.device))
        self.count = len(places)


class PlainSession:
    """Of any model of next tokens: every call computes the whole row again.

    The first token read is the one that begins a sequence, which such a model adds by itself.

    Args:
        model: The model.
    """

    def __init__(self, model: NextTokenModel) -> None:
        self.model = model
        self.row: list[int] = []

    @property
    def count(self) -> int:
        """How many tokens it has read."""
        return len(self.row)

    def read(self, tokens: Sequence[int], parents: Sequence[int] | None = None) -> Tensor:
        before = range(-1, len(tokens) - 1) if parents is None else parents
        rows: list[list[int]] = []
        for token, parent in zip(tokens, before, strict=True):
            rows.append([*(self.row if parent < 0 else rows[parent]), token])
        self.row = [*self.row, *tokens]
        found = [self.model.following(torch.tensor([row[1:]]).long()) for row in rows]
        return torch.cat(found)

    def keep(self, places: Sequence[int]) -> None:
        self.row = [self.row[place] for place in places]


def session_of(model: NextTokenModel) -> tuple[Session, int]:
    """A session that has read nothing, and the token that it has to read first."""
    if isinstance(model, AutoregressiveModel):
        if isinstance(model.network, ReadsOn):
            assert isinstance(model.network, nn.Module)
            device = next(model.network.parameters()).device
            return MemorySession(model.network, device), model.beginning
        return PlainSession(model), model.beginning
    return PlainSession(model), model.vocabulary
