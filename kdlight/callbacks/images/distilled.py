"""Shows and tries a distilled set of images when training ends."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.images.pictures import save_each, save_grid
from kdlight.callbacks.images.probing import ProbingReport, part_of
from kdlight.callbacks.rows import Row
from kdlight.callbacks.tensorboard import show_picture
from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import rebuilt
from kdlight.errors import InputError
from kdlight.metrics.images.distilled import pretrained, transfer
from kdlight.metrics.images.probes import by_parts, few_per_class
from kdlight.networks.images.feature_pool import ConvEncoder, DistilledSet, FeaturePool
from kdlight.training.base import DistillationModule


@runtime_checkable
class DistilsImages(Protocol):
    """A method that ends in a distilled set."""

    distilled: DistilledSet
    pool: FeaturePool

    def taught(self, image: Tensor) -> Tensor:
        """The teacher's features."""


class DistilledSetReport(ProbingReport):
    """What a distilled set is worth, measured when training ends (and for ``test``).

    Networks of another width than the pool's are trained from the start on the distilled images, on
    as many real ones, on all of them, or not at all; each gets a row, printed and written to
    ``summary.json``: the accuracy of a linear probe on ``labels_per_class`` labels, and the error
    to the teacher's features, over their variance, both on held-out images. The set is written to
    ``distilled/`` as pictures, and as one to ``samples/``.

    Args:
        steps: Updates of each of those trainings.
        widening: Their width over that of the pool's networks.
        labels_per_class: Labels of the probe.
        seed: Of those trainings, the same for every run that is to be compared.
        images: The most real images that are read, of either part of the data.

    Raises:
        InputError: A number is out of range; or, before training starts, a method without a
            distilled set, or data without classes.
    """

    kind = DistilsImages
    wanted = "distils images"

    def __init__(
        self,
        steps: int = 300,
        widening: int = 2,
        labels_per_class: int = 5,
        seed: int = 1234,
        images: PositiveInt = 10000,
    ) -> None:
        if min(steps, widening, labels_per_class) < 1:
            raise InputError(
                "steps, widening, labels_per_class: expected numbers above 0, found "
                f"{steps}, {widening} and {labels_per_class}."
            )
        self.images = images
        self.steps, self.widening = steps, widening
        self.labels_per_class, self.seed = labels_per_class, seed

    def rows(self, trainer: L.Trainer, module: Any, folder: Path | None) -> list[Row]:
        assert isinstance(module, DistilsImages)
        assert isinstance(module, DistillationModule)
        image = module.distilled.image.detach().cpu()
        if folder is not None:
            save_each(image, folder / "distilled")
            path = folder / "samples" / f"final_distilled_{len(image)}.png"
            save_grid(image[:100], path)
            show_picture(trainer, f"samples/{path.stem}", path, module.iteration)
        return self._tried(trainer, module)

    def _tried(self, trainer: L.Trainer, module: Any) -> list[Row]:
        """A row for each set that a network is trained on."""
        device = module.distilled.image.device
        known = part_of(trainer, "reference", device, self.images)
        held = part_of(trainer, "heldout", device, self.images)
        few = few_per_class(known[1], self.labels_per_class)
        labelled = known[0][few], known[1][few]
        taught, wanted = (by_parts(module.taught, each[0]) for each in (known, held))
        like = module.pool.member(0)
        assert isinstance(like, ConvEncoder)
        wider = rebuilt(like, width=self.widening * like._init_args["width"])
        count = module.distilled.count
        chosen = torch.randperm(len(known[0]), generator=torch.Generator().manual_seed(self.seed))[
            :count
        ]
        sets = {
            "distilled": (module.distilled.image, module.distilled.target, self.steps),
            "real": (known[0][chosen], taught[chosen], self.steps),
            "all": (known[0], taught, self.steps),
            "untrained": (known[0], taught, 0),
        }
        rows: list[Row] = []
        for name, (image, target, steps) in sets.items():
            network = pretrained(wider, image.detach(), target.detach(), steps, self.seed)
            size = len(image) if steps else 0
            rows.append(
                {"model": name, "images": size, **transfer(network, labelled, held, wanted)}
            )
        return rows
