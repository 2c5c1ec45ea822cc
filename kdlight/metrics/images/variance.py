"""Does a generator shrink its distribution?"""

from torch import Tensor

from kdlight.metrics.base import FeatureMetric
from kdlight.metrics.images.extractors import FeatureExtractor


class VarianceRatio(FeatureMetric):
    """Total variance (trace of the covariance) of generated samples over the real ones'.

    1 is right; less means that the samples crowd around means, which Frechet distances on
    features forgive. torchmetrics has nothing like it.

    ``compute()`` returns ``variance`` and ``non_finite``.

    Args:
        features: Turns images into vectors; :class:`PixelFeatures` for the total pixel variance.
        keep_reference: Whether ``reset`` keeps the real images' share of the states.
    """

    names = ("variance",)
    real_count: Tensor
    generated_count: Tensor

    def __init__(self, features: FeatureExtractor, keep_reference: bool = False) -> None:
        super().__init__(features, keep_reference)
        for side in ("real", "generated"):
            self.add_sums(
                **{f"{side}_count": (), f"{side}_sum": (features.width,), f"{side}_squares": ()}
            )

    def accumulate(self, features: Tensor, side: str) -> None:
        values = features.double()
        self.add_to(f"{side}_count", len(values))
        self.add_to(f"{side}_sum", values.sum(0))
        self.add_to(f"{side}_squares", values.square().sum())

    def enough(self) -> bool:
        return bool(self.real_count >= 2) and bool(self.generated_count >= 2)

    def _total_variance(self, side: str) -> Tensor:
        count, total, squares = (
            getattr(self, f"{side}_{name}") for name in ("count", "sum", "squares")
        )
        variance: Tensor = (squares - total.square().sum() / count) / (count - 1)
        return variance

    def figures(self) -> dict[str, Tensor]:
        return {"variance": self._total_variance("generated") / self._total_variance("real")}
