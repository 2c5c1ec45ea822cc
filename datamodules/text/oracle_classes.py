"""Texts of several languages whose probabilities are known: which language is a text of?"""

import torch
from torch import Tensor, nn

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule
from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import rebuilt
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


class OraclePosterior(nn.Module):
    """The exact probability of every language given a text, all being as common.

    Args:
        languages: The classes.
    """

    def __init__(self, languages: list[HMMLanguage]) -> None:
        super().__init__()
        self.languages = nn.ModuleList(languages)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Log p(class | text), (B, C) float64, of tokens (B, L) with padding where not ``mask``."""
        found = []
        for language in self.languages:
            assert isinstance(language, HMMLanguage)
            found.append(language.log_prob(torch.where(mask, tokens, language.mask)))
        return torch.stack(found, dim=1).log_softmax(dim=1)


class OracleClassesDataModule(TokenDataModule):
    """Ragged draws of hidden Markov languages, with the language as ``label`` (B,) int64.

    The languages differ in both tables; how well the best classifier does is their choice.

    Args:
        language: The first; the others have the seeds behind its.
        classes: Number of languages.
        shortest: Least tokens of a text; lengths are even from there to the language's.
        num_samples: Size of the training part.
        num_heldout: Size of the held-out part, drawn independently.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the texts do not depend on it.

    Raises:
        InputError: A number is out of range.
    """

    per_token = False
    """Labels are of texts, not of tokens."""

    def __init__(
        self,
        language: HMMLanguage,
        classes: int = 4,
        shortest: int = 4,
        num_samples: PositiveInt = 20_000,
        num_heldout: PositiveInt = 4000,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not 1 <= shortest <= language.length or classes < 2:
            raise InputError(
                f"shortest, classes: expected 1 to {language.length} and at least 2, found "
                f"{shortest} and {classes}."
            )
        first = int(language._init_args["seed"])
        self.languages = [rebuilt(language, seed=first + each) for each in range(classes)]
        self.classes, self.shortest = classes, shortest
        self.num_samples = num_samples
        self.num_heldout = num_heldout
        self.vocabulary, self.length = language.vocabulary, language.length

    def posterior(self) -> OraclePosterior:
        """The best classifier."""
        return OraclePosterior(self.languages)

    def read(self) -> tuple[Batch, Batch]:
        return self._part(self.num_samples, 0), self._part(self.num_heldout, 1)

    def _part(self, count: int, part: int) -> Batch:
        generator = torch.Generator().manual_seed(part)
        label = self._labels(count, generator)
        lengths = torch.randint(self.shortest, self.length + 1, (count,), generator=generator)
        drawn = torch.stack([language.draw(count, generator) for language in self.languages])
        tokens = drawn[label, torch.arange(count)]
        mask = torch.arange(self.length) < lengths[:, None]
        return {
            "tokens": tokens.masked_fill(~mask, 0),
            "mask": mask,
            "lengths": lengths,
            "label": label,
        }

    def _labels(self, count: int, source: torch.Generator) -> Tensor:
        """The class of every text of a part, (count,) int64."""
        return torch.randint(self.classes, (count,), generator=source)
