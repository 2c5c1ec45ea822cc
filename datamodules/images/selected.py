"""Images without labels that a classifier is sure of, out of many from elsewhere."""

import torch
from torch import Tensor

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.unlabelled import NONE
from datamodules.images.views import WrappedDataModule, chosen
from datamodules.loader import EvaluationLoader
from datamodules.order import positive
from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.selection.per_class import surest_per_class


class SelectedDataModule(WrappedDataModule):
    """Keeps the training images of which a teacher is surest, the same number of each class.

    SSLD chooses four million of ImageNet-22k so. What is kept has no labels; it is the ``foreign``
    of :class:`~datamodules.images.unlabelled.UnlabelledDataModule`. Near copies of held-out images
    are not looked for: keep them out of the folder.

    Args:
        data: The images.
        classifier: The teacher.
        per_class: The most images of a class.
        least: Confidence below which none is kept.
        batch_size: Images at once that the teacher looks at, and batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: A number is out of range, or the teacher is sure of none.
    """

    def __init__(
        self,
        data: ImageDataModule,
        classifier: Classifier,
        per_class: int,
        least: float = 0.0,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(data, batch_size, steps_per_epoch, seed)
        if not 0 <= least <= 1:
            raise InputError(f"least: expected a number from 0 to 1, found {least}.")
        self.classifier = classifier.eval().requires_grad_(False)
        self.per_class = positive("per_class", per_class)
        self.least = least

    def read(self) -> Splits:
        splits = self.data.splits
        rows = surest_per_class(self._scores(splits), self.per_class, self.least).numpy()
        if not len(rows):
            raise InputError(
                f"least: the classifier is {100 * self.least:g} % sure of none of the images."
            )
        labels = torch.full((len(rows),), NONE).numpy()
        training = chosen([splits.training], [rows], labels)
        return Splits(training, splits.heldout, splits.reference)

    @torch.no_grad()
    def _scores(self, splits: Splits) -> Tensor:
        """What the teacher says of all training images, (N, C), without augmentation."""
        where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self.classifier.to(where)
        batches = EvaluationLoader(splits.reference, self.batch_size, num_workers=self.num_workers)
        found = torch.cat([model(batch["image"].to(where)).cpu() for batch in batches])
        self.classifier.cpu()
        return found
