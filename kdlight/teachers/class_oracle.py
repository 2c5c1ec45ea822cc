"""A teacher that writes texts of a class: the oracle of rounds with feedback."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from kdlight.core.ranges import PositiveInt, Probability
from kdlight.core.spec import Recorded, rebuilt
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


class ClassOracle(Recorded):
    """Writes texts of several languages whose probabilities are known.

    What it writes is a function of the request, so that asking again gives the same.

    Args:
        language: The first class; the others have the seeds behind its, as those of
            ``OracleClassesDataModule`` do.
        classes: Number of languages.
        shortest: Least tokens of a text; lengths are even from there to the language's.
        candidates: Texts of which, where a class is named to be hard to tell from, the one is
            taken that is likeliest there compared with its own.
        wrong: Share of the texts that are of another class than was asked for.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        language: HMMLanguage,
        classes: int = 4,
        shortest: int = 4,
        candidates: PositiveInt = 8,
        wrong: Probability = 0.0,
    ) -> None:
        if not 1 <= shortest <= language.length or classes < 2:
            raise InputError(
                f"shortest, classes: expected 1 to {language.length} and at least 2, found "
                f"{shortest} and {classes}."
            )
        first = int(language._init_args["seed"])
        self.languages = [rebuilt(language, seed=first + each) for each in range(classes)]
        self.shortest, self.candidates, self.wrong = shortest, candidates, wrong

    @torch.no_grad()
    def answer(self, request: Mapping[str, Any]) -> list[int]:
        """Tokens of a text.

        Args:
            request: ``label``, its class, ``instead_of``, the class that it is to be hard to tell
                from or None, and a ``number`` that makes the request another one.
        """
        digest = hashlib.sha256(json.dumps(dict(request), sort_keys=True).encode()).digest()
        source = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        label, like = int(request["label"]), request["instead_of"]
        if float(torch.rand((), generator=source)) < self.wrong:
            step = int(torch.randint(1, len(self.languages), (), generator=source))
            label = (label + step) % len(self.languages)
        own = self.languages[label]
        length = int(torch.randint(self.shortest, own.length + 1, (), generator=source))
        drawn = own.draw(1 if like is None else self.candidates, source)[:, :length]
        if like is None:
            return drawn[0].tolist()
        closer = self.languages[int(like)].log_prob(drawn) - own.log_prob(drawn)
        return drawn[int(closer.argmax())].tolist()
