"""What proposes continuations: a smaller model, the text itself, or nothing."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.categorical import draw
from kdlight.speculative.drafts import Chain, Draft, Tree
from kdlight.speculative.sessions import session_of


class Drafter(Protocol):
    """Proposes continuations of rows."""

    def begin(self) -> None:
        """A new row begins."""
        ...

    def propose(self, row: Sequence[int], most: int, uniform: Tensor) -> Draft:
        """Continuations of a row.

        Args:
            row: Tokens so far: what was proposed before and not kept is not among them.
            most: Places that are left.
            uniform: Numbers in [0, 1) for draws, one a place behind the row.
        """
        ...


def law(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities (..., V) float64; at temperature 0 all of it on the largest logit."""
    if temperature > 0:
        below = logits.double() - logits.double().amax(dim=-1, keepdim=True)
        return (below / temperature).log_softmax(dim=-1)  # the least temperature overflows nothing
    best = logits.argmax(dim=-1, keepdim=True)
    none = torch.full_like(logits, -torch.inf, dtype=torch.float64)
    return none.scatter(-1, best, 0.0)


class NoDrafter:
    """Nothing: the target writes a token a call."""

    def begin(self) -> None:
        """A new row begins."""

    def propose(self, row: Sequence[int], most: int, uniform: Tensor) -> Tree:
        """No continuation."""
        return Tree([], [])


class ModelDrafter:
    """A small model that writes a few tokens ahead.

    Args:
        model: The model.
        block: Tokens of a draft.
        temperature: Its logits are divided by it; the target's, for the most to be kept.
    """

    def __init__(self, model: NextTokenModel, block: int = 4, temperature: float = 1.0) -> None:
        self.model, self.block, self.temperature = model, block, temperature
        self.begin()

    def begin(self) -> None:
        """A new row begins."""
        self.session, beginning = session_of(self.model)
        self.read = [beginning]

    def propose(self, row: Sequence[int], most: int, uniform: Tensor) -> Chain:
        """A continuation that the model draws."""
        known = [self.read[0], *row]
        # What it has read and still stands; the last is read again, for what follows it.
        same = next(
            (n for n, (a, b) in enumerate(zip(self.read, known, strict=False)) if a != b),
            min(len(self.read), len(known)),
        )
        same = min(same, self.session.count, len(known) - 1)
        self.session.keep(range(same))
        following, tokens, laws = known[same:], [], []
        for place in range(min(self.block, most)):
            laws.append(law(self.session.read(following)[-1], self.temperature))
            tokens.append(int(draw(laws[-1], uniform[place])))
            following = tokens[-1:]
        self.read = [*known, *tokens]
        none = torch.empty(0, self.model.vocabulary, dtype=torch.float64, device=uniform.device)
        return Chain(tokens, torch.stack(laws) if laws else none)


class LookupDrafter:
    """What stood behind the last tokens when they stood in the row before (prompt look-up).

    Args:
        block: Tokens of a draft.
        match: Tokens that have to be the same, as many as there are, down to one.
    """

    def __init__(self, block: int = 8, match: int = 3) -> None:
        self.block, self.match = block, match

    def begin(self) -> None:
        """A new row begins."""

    def propose(self, row: Sequence[int], most: int, uniform: Tensor) -> Tree:
        """What followed the longest match, the last of several."""
        for size in range(min(self.match, len(row) - 1), 0, -1):
            for start in range(len(row) - size - 1, -1, -1):
                if row[start : start + size] == row[len(row) - size :]:
                    found = list(row[start + size : start + size + min(self.block, most)])
                    return Tree(found, list(range(-1, len(found) - 1)))
        return Tree([], [])
