"""Training of the small classifiers that judge generated images."""

import torch
from torch import nn

from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class ClassifierTraining(DistillationModule):
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
        classifier: SmallClassifier,
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

    def step(self, batch: Batch) -> None:
        image = batch["image"]
        if self.augmentation is not None:
            draws = self.noise.normal(image.new_empty(len(image), self.augmentation.draws))
            image, _ = self.augmentation(image, draws, self.noise.uniform(len(image)))
        loss = self.loss(self.classifier(image), batch["label"])
        self.optimize("classifier", loss)
        self.report({"cross_entropy": loss.detach()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        guess = self.ema.module(batch["image"]).argmax(dim=1)
        accuracy = (guess == batch["label"]).float().mean()
        self.log("val/accuracy", accuracy, batch_size=len(guess), sync_dist=True, on_epoch=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        guess: torch.Tensor = self.ema.module(batch["image"]).argmax(dim=1)
        return guess

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("classifier", self.ema.module)}
