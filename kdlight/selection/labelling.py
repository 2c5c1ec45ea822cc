"""Labelling by a teacher (UniversalNER, arXiv:2308.03279; ADE, arXiv:2307.06439)."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.selection.critics import Entities, passes
from kdlight.selection.spans import aligned, tags_of


class Labelling(Recorded):
    """Asks for the entities of texts, and makes tags of answers that all critics let pass.

    A string that is named is taken wherever it stands in the text; characters outside all of them
    are taught as outside.

    Args:
        types: Types that are asked for.
        critics: Predicates of answers (:mod:`kdlight.selection.critics`); what one refuses is not
            learnt from.
    """

    def __init__(self, types: list[str], critics: Sequence[Any] = ()) -> None:
        self.types, self.critics = list(types), list(critics)

    def request(self, text: str) -> dict[str, Any]:
        """What the teacher is asked of a text."""
        return {"text": text, "types": self.types}

    def judged(self, text: str, answer: Any) -> str | None:
        """The name of the critic that refuses an answer; None if it is learnt from."""
        return passes(self.critics, text, self.entities(answer))

    def tags(self, text: str, answer: Any, length: int) -> list[int]:
        """BIO tags of the characters of a text, filled up to a length."""
        known = [each for each in self.entities(answer) if each[1] in self.types]
        return tags_of(aligned(text, known), length, self.types)

    @staticmethod
    def entities(answer: Any) -> Entities:
        """An answer as strings with their types.

        Raises:
            InputError: It is no list of these.
        """
        pairs: Sequence[Any] = answer if isinstance(answer, list | tuple) else [None]
        for pair in pairs:
            known = isinstance(pair, list | tuple) and len(pair) == 2
            if not known or not all(isinstance(part, str) for part in pair):
                raise InputError(
                    f"answer: expected a list of strings with their types, found {answer!r:.60}."
                )
        return [(string, kind) for string, kind in pairs]


@runtime_checkable
class Chooser(Protocol):
    """Says which texts a teacher is asked about next."""

    def __call__(self, student: nn.Module, tokens: Tensor, mask: Tensor, count: int) -> Tensor:
        """Numbers of rows, at most ``count``, (n,) int64.

        Args:
            student: As it is now, in evaluation mode.
            tokens: Rows that were not asked about, (N, L) int64.
            mask: Which of their tokens are scored, (N, L) bool.
            count: How many are wanted.
        """
        ...


class InOrder(Recorded):
    """The first: what a pool without order gives at random."""

    def __call__(self, student: nn.Module, tokens: Tensor, mask: Tensor, count: int) -> Tensor:
        return torch.arange(min(count, len(tokens)))


class LeastSure(Recorded):
    """Those whose least sure token the student is least sure about: its smallest margin."""

    @torch.no_grad()
    def __call__(self, student: nn.Module, tokens: Tensor, mask: Tensor, count: int) -> Tensor:
        found = []
        for some, scored in zip(torch.split(tokens, 250), torch.split(mask, 250), strict=True):
            best = student(some).double().softmax(dim=2).topk(2, dim=2).values
            margin = (best[..., 0] - best[..., 1]).masked_fill(~scored, 1.0)
            found.append(margin.min(dim=1).values)
        return torch.cat(found).argsort(stable=True)[:count].sort().values.cpu()
