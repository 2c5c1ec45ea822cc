"""Cases of recognition."""

from typing import Any

import lightning as L
import torch
from torch import nn

from datamodules.loader import StreamLoader
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.losses.language.pointwise import JensenShannon
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.training.optim import Optimization
from modules.vision.classifier_training import ClassifierTraining
from modules.vision.logit_distillation import LogitDistillation
from tests.exactness.harness import BATCH, Case, TinyImages


def network(seed: int) -> SmallClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = SmallClassifier(size=4, num_classes=2, width=4, features=4)
    for part in classifier.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # every rank draws masks of its own
    return classifier


class PartlyLabelled(TinyImages):
    """A third of the images has a label, so that ranks hold unlike numbers of them."""

    def train_dataloader(self) -> StreamLoader:
        loader = super().train_dataloader()
        assert isinstance(loader.data, dict)
        label = loader.data["label"]
        loader.data["label"] = label.where(torch.arange(len(label)) % 3 == 0, -1)
        return loader


def partly_labelled(batch_size: int = BATCH) -> L.LightningDataModule:
    return PartlyLabelled(batch_size)


def classifier_training(**kwargs: Any) -> ClassifierTraining:
    return ClassifierTraining(
        network(1),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


def logit_distillation(**kwargs: Any) -> LogitDistillation:
    return LogitDistillation(
        network(2),
        network(1),
        JensenShannon(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        cross_entropy=0.5,
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


VISION = {
    "classifier_training": Case(classifier_training, 20),
    "image_logit_distillation": Case(logit_distillation, 20, data_module=partly_labelled),
}
