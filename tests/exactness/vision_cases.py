"""Cases of recognition."""

from typing import Any

import torch
from torch import nn

from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.training.optim import Optimization
from modules.vision.classifier_training import ClassifierTraining
from tests.exactness.harness import Case


def classifier_training(**kwargs: Any) -> ClassifierTraining:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        classifier = SmallClassifier(size=4, num_classes=2, width=4, features=4)
    for part in classifier.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # every rank draws masks of its own
    return ClassifierTraining(
        classifier,
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


VISION = {"classifier_training": Case(classifier_training, 20)}
