"""Training of classifiers of images: teachers, and the judges of generated images."""

from torch import nn

from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.networks.images.classifier import Classifier
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.base import ClassifierModule


class ClassifierTraining(ClassifierModule):
    """Cross-entropy on augmented images; the average of the weights is the classifier.

    Args:
        classifier: The network to train.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        augmentation: Augmentation of the images; the classifier is not told of it.
        label_smoothing: Share of the target spread over all classes.
        ema_half_life: Half-life of the average, in updates.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        classifier: Classifier,
        optimizer: Optimization,
        iterations: int = 3000,
        augmentation: AffineAugmentation | None = None,
        label_smoothing: float = 0.05,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"classifier": optimizer}, accumulate, seed, max_non_finite)
        self.classifier = classifier
        self.ema = EMA(classifier, ema_half_life)
        self.average("classifier", self.ema)
        self.augmentation = augmentation
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def setup(self, stage: str) -> None:
        self.require_labels()

    def step(self, batch: Batch) -> None:
        image = self.augmented(batch["image"], self.augmentation)
        loss = self.loss(self.classifier(image), batch["label"])
        self.optimize("classifier", loss)
        self.report({"cross_entropy": loss.detach()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        accuracy = (self.predict_step(batch, batch_idx) == batch["label"]).float().mean()
        count = len(batch["label"])
        self.log("val/accuracy", accuracy, batch_size=count, sync_dist=True, on_epoch=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        return {"ema.module": ("classifier", self.ema.module)}
