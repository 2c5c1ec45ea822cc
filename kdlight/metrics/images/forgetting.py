"""Has a student forgotten the classes it ought to forget, and kept the others?"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.metrics.images.extractors import FeatureExtractor, pixel_space
from kdlight.metrics.images.frechet import FrechetDistance
from kdlight.metrics.images.labels import LabelAccuracy
from kdlight.networks.images.classifier import SmallClassifier


def check_forgotten(
    forgotten: Sequence[int], num_classes: int, owner: str, key: str = "forgotten"
) -> None:
    """Complain about classes that ``owner`` cannot have forgotten.

    Args:
        forgotten: The classes.
        num_classes: Number of classes that ``owner`` knows; 0 if it has no labels.
        owner: What to call it, such as "the student".
        key: What to call the setting.

    Raises:
        InputError: It has no labels, or none of these classes, or no others.
    """
    if num_classes == 0:
        raise InputError(f"{key}: expected classes to ask for, but {owner} has no labels.")
    wrong = [label for label in forgotten if not 0 <= label < num_classes]
    if wrong:
        raise InputError(
            f"{key}: expected classes from 0 to {num_classes - 1} as {owner} has, found {wrong[0]}."
        )
    if not 0 < len(set(forgotten)) < num_classes:
        raise InputError(
            f"{key}: expected at least one of the {num_classes} classes of {owner} and not "
            f"all, found {list(forgotten)}."
        )


class ForgettingMetrics(nn.Module):
    """Measures samples of the forgotten and of the retained classes apart.

    The row holds, as Score Forgetting Distillation (arXiv:2409.11219) reports them:

    - ``accuracy_forgotten``: share of the samples asked for a forgotten class that the classifier
      takes for that class; lower is better. The literature's unlearning accuracy is 1 minus it;
    - ``accuracy_retained``: the same of the other classes; higher is better;
    - ``frechet_<features>_retained`` and its floor, for pixels and features: samples asked for a
      retained class against the real images of those classes, in percent of their variance.

    A forgotten class has no Frechet distance: what should come in its place nobody says.

    Args:
        reference: Batches of the training split, unaugmented and the same on every rank,
            ``{"image": (B, ...) in [-1, 1], "label": (B,)}``; read once.
        shape: Shape of one sample.
        forgotten: Classes that ought to be forgotten.
        classifier: Judge of the class.
        features: Another space for the Frechet distance than pixels.
        rank: Which rank this is: it takes its share of the reference, and of the samples.
        world_size: Number of ranks, whose figures are summed.
        device: Where features are computed.

    Raises:
        InputError: The reference has no labels, or no image of a retained class, or the
            classifier does not know the classes.
    """

    forgotten: Tensor

    def __init__(
        self,
        reference: Iterable[Condition],
        shape: Sequence[int],
        forgotten: Sequence[int],
        classifier: SmallClassifier,
        features: FeatureExtractor | None = None,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        check_forgotten(forgotten, classifier.num_classes, "the classifier")
        self.register_buffer("forgotten", torch.tensor(sorted(set(forgotten))), persistent=False)
        spaces: list[FeatureExtractor] = [pixel_space(shape)]
        spaces += [] if features is None else [features]
        self._distances = [FrechetDistance(space, keep_reference=True) for space in spaces]
        self.distances = nn.ModuleList(self._distances)  # so that they move with this module
        self.accuracy_forgotten = LabelAccuracy(classifier)
        self.accuracy_retained = LabelAccuracy(classifier)
        self.to(device)
        kept = 0
        for index, batch in enumerate(reference):
            if "label" not in batch:
                raise InputError("forgotten: expected data with labels, found none.")
            retained = ~torch.isin(batch["label"], self.forgotten.cpu())
            kept += int(retained.sum())
            if index % world_size == rank and retained.any():
                for distance in self._distances:
                    distance.update(batch["image"][retained].to(device), real=True)
        if kept < 2:
            raise InputError(
                f"forgotten: expected at least 2 real images of other classes, found {kept}."
            )

    def update(self, images: Tensor, label: Tensor | None) -> None:
        """Add samples (B, ...) and the classes that were asked for, (B,).

        Raises:
            InputError: The samples were asked for by no class.
        """
        if label is None:
            raise InputError("forgotten: expected samples with labels, found none.")
        gone = torch.isin(label, self.forgotten)
        self.accuracy_forgotten.update(images[gone], label[gone])
        self.accuracy_retained.update(images[~gone], label[~gone])
        for distance in self._distances:
            if not gone.all():  # not every network takes a batch of none
                distance.update(images[~gone], real=False)

    def row(self) -> dict[str, float]:
        """The figures, summed over all ranks; then the samples are forgotten."""
        row: dict[str, float] = {}
        for name in ("accuracy_forgotten", "accuracy_retained"):
            accuracy: LabelAccuracy = getattr(self, name)
            row[name] = float(accuracy.compute()["accuracy"])
            accuracy.reset()
        for distance in self._distances:
            figures = distance.compute()
            key = f"frechet_{distance.features.name}_retained"
            row |= {key: float(figures["percent"]), f"{key}_floor": float(figures["floor"])}
            distance.reset()
        return row
