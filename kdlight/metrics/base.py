"""What every metric shares: states that add up across ranks, no good number from bad samples.

``compute()`` of every metric returns a dict of named figures plus ``non_finite``, the number of
samples that held a NaN or an infinity. One such sample, or fewer than two samples, makes every
figure NaN: a generator that diverged must never look good because its worst samples were left out.
"""

from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kdlight.metrics.images.extractors import FeatureExtractor
from kdlight.metrics.sampling import MAX_ROWS, extended, subset, unkeyed


class SampleMetric(Metric):
    """Base of all metrics: names its figures, counts non-finite samples, stays in evaluation mode.

    Attributes:
        names: The figures that :meth:`figures` returns.
        non_finite: Samples so far that held a NaN or an infinity, ().
    """

    is_differentiable = False
    full_state_update = False
    names: tuple[str, ...]
    non_finite: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("non_finite", torch.tensor(0), dist_reduce_fx="sum")

    def add_sums(self, **shapes: tuple[int, ...]) -> None:
        """Declare float64 states that start at zero and sum across ranks."""
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def add_to(self, name: str, value: Tensor | int) -> None:
        """Add ``value`` to a summed state."""
        setattr(self, name, getattr(self, name) + value)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: the networks of a metric have no other."""
        return super().train(False)

    def enough(self) -> bool:
        """Whether the states hold enough samples for the figures to mean something."""
        raise NotImplementedError

    def figures(self) -> dict[str, Tensor]:
        """The figures, float64 scalars; called only if :meth:`enough` and all is finite."""
        raise NotImplementedError

    def bad(self) -> Tensor:
        """Number of non-finite samples, ()."""
        return self.non_finite.clone()

    def compute(self) -> dict[str, Tensor]:
        """The figures by name and ``non_finite``; the figures are NaN as the module says."""
        bad = self.bad()
        if bad == 0 and self.enough():
            figures = self.figures()
        else:
            nan = torch.tensor(torch.nan, dtype=torch.float64, device=bad.device)
            figures = {name: nan.clone() for name in self.names}
        return {**figures, "non_finite": bad}


class FeatureMetric(SampleMetric):
    """Base of the metrics that compare features of generated and of real images.

    Args:
        features: Turns images into vectors.
        keep_reference: Whether :meth:`reset` keeps what the real images left, so that a set that
            never changes is read once. Use ``update`` and ``compute`` then, not ``forward``.
    """

    features: FeatureExtractor
    real_non_finite: Tensor

    def __init__(self, features: FeatureExtractor, keep_reference: bool = False) -> None:
        super().__init__()
        self.features = features
        self.keep_reference = keep_reference
        self.add_state("real_non_finite", torch.tensor(0), dist_reduce_fx="sum")

    def add_rows(self, *names: str, max_rows: int) -> None:
        """Declare states of at most ``max_rows`` feature rows of all ranks together.

        Beyond that a fixed random subset of them is kept (:mod:`kdlight.metrics.sampling`). They
        are stored flat, because torchmetrics stands in for a rank without data with a
        one-dimensional empty tensor.
        """
        self.max_rows = max_rows
        for name in names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def keep(self, name: str, features: Tensor) -> None:
        """Add features (B, F) to such a state."""
        flat: list[Tensor] = getattr(self, name)
        width = self.features.width + 2
        parts = extended([part.view(-1, width) for part in flat], features, self.max_rows)
        setattr(self, name, [part.flatten() for part in parts])

    def rows(self, name: str) -> Tensor:
        """The rows of such a state, (N, F), float64, in an order that may depend on the ranks."""
        state: Any = getattr(self, name)
        width = self.features.width
        if isinstance(state, list) and not state:
            return torch.zeros(0, width, dtype=torch.float64, device=self.device)
        kept = dim_zero_cat(state).reshape(-1, width + 2)
        return unkeyed(subset(kept, self.max_rows)).double()

    def accumulate(self, features: Tensor, side: str) -> None:
        """Add finite ``features`` (B, F) to the states of ``side``, "real" or "generated"."""
        raise NotImplementedError

    def update(self, images: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            images: What the feature extractor takes, such as (B, C, H, W) in [-1, 1].
            real: Whether they are reference images or generated ones.
        """
        finite = images[images.flatten(1).isfinite().all(dim=1)]
        self.update_features(self.features(finite), real, len(images) - len(finite))

    def update_features(self, features: Tensor, real: bool, broken: int = 0) -> None:
        """Add a batch whose features are known, so that metrics can share them.

        Args:
            features: Features (B, F) of the batch's finite images.
            real: As in :meth:`update`.
            broken: How many images of the batch were not finite.
        """
        # What torchmetrics does around `update`: there is something to compute, and anew.
        self._computed = None
        self._update_count += 1
        finite = features[features.isfinite().all(dim=1)]
        broken += len(features) - len(finite)
        self.add_to("real_non_finite" if real else "non_finite", broken)
        if len(finite):
            self.accumulate(finite, "real" if real else "generated")

    def bad(self) -> Tensor:
        """Number of non-finite samples, generated and real, ()."""
        return self.non_finite + self.real_non_finite

    def reset(self) -> None:
        """Forget the generated images and, unless ``keep_reference``, the real ones."""
        kept = {}
        if self.keep_reference:
            for name in self._defaults:
                if name.startswith("real_"):
                    state = getattr(self, name)
                    # torchmetrics empties lists in place.
                    kept[name] = list(state) if isinstance(state, list) else state
        super().reset()
        for name, state in kept.items():
            setattr(self, name, state)


class RowsMetric(FeatureMetric):
    """Base of the metrics that compare feature rows, of larger sets a fixed random subset.

    Args:
        features: Turns images into vectors.
        keep_reference: Whether ``reset`` keeps the real images' rows.
        max_rows: Most rows of either set that are held and compared.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        keep_reference: bool = False,
        max_rows: int = MAX_ROWS,
    ) -> None:
        super().__init__(features, keep_reference)
        self.add_rows("real_rows", "generated_rows", max_rows=max_rows)

    def accumulate(self, features: Tensor, side: str) -> None:
        self.keep(f"{side}_rows", features)

    def enough(self) -> bool:
        return min(len(self.rows("real_rows")), len(self.rows("generated_rows"))) >= 2
