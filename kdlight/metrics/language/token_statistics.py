"""Are sampled tokens as varied as a text, and do neighbours go together as in it?"""

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric

BUCKETS = 1 << 16
"""Counters of pairs: those of a large vocabulary share them."""


class TokenStatistics(SampleMetric):
    """Frequencies of tokens and of pairs, and how many pairs and threes are distinct.

    ``compute()`` returns ``bigram_tv``, the total variation distance of pairs of neighbours from
    the reference, in [0, 1], with ``bigram_tv_floor``, that of one half of the reference from the
    other; ``entropy``, nats of the frequencies of single tokens, with ``entropy_floor`` of the
    reference, and ``entropy_row``, the mean of the same within a row, which papers on masked
    diffusion report; ``distinct_2``, the share of pairs of a row that occur once or for the first
    time in it. A low temperature shows as an entropy below the reference's, whatever a judge says.

    Args:
        reference: Real sequences, (N, L) int64.
        vocabulary: Tokens V.
    """

    singles: Tensor
    pairs: Tensor
    rows: Tensor
    row_entropy: Tensor
    distinct: Tensor

    names = (
        "bigram_tv",
        "bigram_tv_floor",
        "entropy",
        "entropy_floor",
        "entropy_row",
        "entropy_row_floor",
        "distinct_2",
        "distinct_2_floor",
    )

    def __init__(self, reference: Tensor, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.buckets = min(vocabulary**2, BUCKETS)
        self.add_sums(
            singles=(vocabulary,), pairs=(self.buckets,), rows=(), row_entropy=(), distinct=()
        )
        halves = [_laws(self._pairs(part)) for part in (reference[::2], reference[1::2])]
        self.floor = float((halves[0] - halves[1]).abs().sum() / 2)
        self.truth_singles = torch.bincount(reference.flatten(), minlength=vocabulary).double()
        self.register_buffer("truth", _laws(self._pairs(reference)), persistent=False)
        self.row_floor = (float(_row_entropy(reference).mean()), float(_distinct(reference).mean()))

    def update(self, tokens: Tensor) -> None:
        """Add sequences, (B, L) int64.

        Raises:
            InputError: They hold tokens outside of the vocabulary.
        """
        if not bool(((tokens >= 0) & (tokens < self.vocabulary)).all()):
            raise InputError(
                f"tokens: expected 0 to {self.vocabulary - 1}, found {int(tokens.min())} to "
                f"{int(tokens.max())}."
            )
        self.add_to("rows", len(tokens))
        self.add_to("singles", torch.bincount(tokens.flatten(), minlength=self.vocabulary))
        self.add_to("pairs", self._pairs(tokens))
        self.add_to("row_entropy", _row_entropy(tokens).sum())
        self.add_to("distinct", _distinct(tokens).sum())

    def enough(self) -> bool:
        return bool(self.rows >= 2)

    def figures(self) -> dict[str, Tensor]:
        truth = self.truth
        assert isinstance(truth, Tensor)
        found = (
            (_laws(self.pairs) - truth).abs().sum() / 2,
            self.floor,
            _entropy(self.singles),
            _entropy(self.truth_singles),
            self.row_entropy / self.rows,
            self.row_floor[0],
            self.distinct / self.rows,
            self.row_floor[1],
        )
        return {
            name: torch.as_tensor(value, dtype=torch.float64)
            for name, value in zip(self.names, found, strict=True)
        }

    def _pairs(self, tokens: Tensor) -> Tensor:
        """Counts of pairs of neighbours, (buckets,) float64."""
        index = (tokens[:, :-1] * self.vocabulary + tokens[:, 1:]) % self.buckets
        return torch.bincount(index.flatten(), minlength=self.buckets).double()


def _laws(counts: Tensor) -> Tensor:
    return counts / counts.sum().clamp(min=1)


def _entropy(counts: Tensor) -> Tensor:
    """Nats of the law that counts (..., V) give."""
    law = counts / counts.sum(dim=-1, keepdim=True)
    return -torch.xlogy(law, law).sum(dim=-1)


def _row_entropy(tokens: Tensor) -> Tensor:
    """Entropy of the tokens of each row, (B,) float64, nats."""
    ordered = tokens.sort(dim=1).values
    found = [row.unique_consecutive(return_counts=True)[1].double() for row in ordered]
    return torch.stack([_entropy(counts) for counts in found])


def _distinct(tokens: Tensor) -> Tensor:
    """Distinct pairs of each row over its pairs, (B,) float64."""
    large = int(tokens.max()) + 1
    ordered = (tokens[:, :-1] * large + tokens[:, 1:]).sort(dim=1).values
    new = (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1) + 1
    return new.double() / max(tokens.shape[1] - 1, 1)
