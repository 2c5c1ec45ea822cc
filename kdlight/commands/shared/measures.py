"""All that one row of an evaluation is made of: a data set's figures, published statistics'."""

from torch import Tensor

from kdlight.metrics.images.generation import FIDS, GenerationMetrics, Row
from kdlight.metrics.images.moments import PublishedDistance


class Measures:
    """Feeds samples to the table of a data set and to published statistics, either or both.

    Args:
        table: The figures against a data set; None without one.
        published: The distance to published statistics; None without any. Where both have an
            FID the published one stands.
    """

    def __init__(
        self, table: GenerationMetrics | None, published: PublishedDistance | None
    ) -> None:
        self.table, self.published = table, published

    def update(self, images: Tensor, label: Tensor | None) -> None:
        """Add samples (B, ...) and the classes that were asked for."""
        if self.table is not None:
            self.table.update(images, label)
        if self.published is not None:
            self.published.update(images, real=False)

    def row(self) -> Row:
        """The figures, summed over all processes; then the samples are forgotten."""
        row: Row = {} if self.table is None else self.table.row()
        if self.published is not None:
            name = self.published.features.name
            row[FIDS.get(name, f"fd_{name}")] = float(self.published.compute()["distance"])
            self.published.reset()
        return row
