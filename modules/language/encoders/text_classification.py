"""Training of a classifier of texts: what teachers of representations are made by."""

import torch
from torch import Tensor, nn

from kdlight.core.ranks import joint_mean
from kdlight.networks.text.classifier import TextClassifier
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class TextClassification(DistillationModule):
    """Cross-entropy of the label; the average of the weights is the classifier.

    Args:
        classifier: The network to train.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        classifier: TextClassifier,
        optimizer: Optimization,
        iterations: int = 2000,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"classifier": optimizer}, accumulate, seed, max_non_finite)
        self.classifier = classifier
        self.ema = EMA(classifier, ema_half_life)
        self.average("classifier", self.ema)

    def step(self, batch: Batch) -> None:
        logits = self.classifier(batch["tokens"], batch["mask"]).logits
        loss = label_loss(logits, batch["label"])
        self.optimize("classifier", loss)
        self.report({"cross_entropy": loss.detach()})

    def classifiers(self) -> dict[str, tuple[str, TextClassifier]]:
        """What training ends in, by its state-dict prefix."""
        return {"ema.module": ("classifier", self.ema.module)}

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.classifiers())

    def teacher_law(self, tokens: Tensor, mask: Tensor) -> Tensor | None:
        """None: there is no teacher."""
        return None


def label_loss(logits: Tensor, label: Tensor) -> Tensor:
    """This rank's share of the joint batch's mean cross-entropy."""
    each = nn.functional.cross_entropy(logits.float(), label, reduction="none")
    return joint_mean(each, torch.ones_like(each))
