"""How far are sampled sentences from a language whose probabilities are known?"""

import torch
from torch import Tensor

from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric

LAGS = (1, 2, 4)


class OracleFit(SampleMetric):
    """Likelihood under the true language, and pairs of tokens against their true frequencies.

    ``compute()`` returns ``nll``, nats a token, which has to be the language's own entropy: below
    it the samples are too typical, as at a low temperature, which is as wrong as above;
    ``nll_floor``, the same of as many true sentences; ``bigram_tv``, the total variation distance
    of pairs of neighbours from the truth, in [0, 1], ``bigram_tv_2`` and ``bigram_tv_4`` at those
    distances (those that fit the length), each with its ``_floor`` for as many true sentences.
    torchmetrics has nothing like it.

    Args:
        language: The language.
    """

    total: Tensor
    count: Tensor
    pairs: Tensor

    def __init__(self, language: HMMLanguage) -> None:
        super().__init__()
        self.language = language
        self.lags = [lag for lag in LAGS if lag < language.length]
        keys = ["nll", *(_name(lag) for lag in self.lags)]
        self.names = (*keys, *(f"{key}_floor" for key in keys))
        vocabulary = language.vocabulary
        self.add_sums(total=(), count=(), pairs=(len(self.lags), vocabulary, vocabulary))
        truth = [language.bigram(lag) for lag in self.lags] or [torch.zeros(0)]
        self.register_buffer("truth", torch.stack(truth), persistent=False)
        self._floors: dict[int, dict[str, Tensor]] = {}

    def update(self, tokens: Tensor) -> None:
        """Add sentences, (B, L) int64.

        Raises:
            InputError: They have another length, or tokens outside of the vocabulary.
        """
        vocabulary, length = self.language.vocabulary, self.language.length
        inside = bool(((tokens >= 0) & (tokens < vocabulary)).all())
        if tokens.shape[1:] != (length,) or not inside:
            raise InputError(
                f"tokens: expected {length} tokens of 0 to {vocabulary - 1} a row, found shape "
                f"{tuple(tokens.shape)} and tokens {int(tokens.min())} to {int(tokens.max())}."
            )
        self.add_to("count", len(tokens))
        self.add_to("total", -self.language.log_prob(tokens).sum())
        self.add_to("pairs", torch.stack([_pairs(tokens, lag, vocabulary) for lag in self.lags]))

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        count = int(self.count)
        if count not in self._floors:
            true = OracleFit(self.language)
            true.update(self.language.draw(count, torch.Generator().manual_seed(2)))
            self._floors[count] = {f"{key}_floor": value for key, value in true._own().items()}
        return self._own() | self._floors[count]

    def _own(self) -> dict[str, Tensor]:
        found = {"nll": self.total / self.count / self.language.length}
        for lag, pairs, truth in zip(self.lags, self.pairs, self._truth(), strict=True):
            found[_name(lag)] = (pairs / pairs.sum() - truth).abs().sum() / 2
        return found

    def _truth(self) -> Tensor:
        truth = self.truth
        assert isinstance(truth, Tensor)
        return truth


def _name(lag: int) -> str:
    return "bigram_tv" if lag == 1 else f"bigram_tv_{lag}"


def _pairs(tokens: Tensor, lag: int, vocabulary: int) -> Tensor:
    """Counts of (x_l, x_(l + lag)), (V, V) float64."""
    index = tokens[:, :-lag] * vocabulary + tokens[:, lag:]
    counts = torch.bincount(index.flatten(), minlength=vocabulary**2)
    return counts.reshape(vocabulary, vocabulary).double()
