"""Cases of recognition."""

from typing import Any

import lightning as L
import torch
from torch import nn

from datamodules.loader import StreamLoader
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.losses.language.pointwise import JensenShannon
from kdlight.networks.images.captioner import Captioner
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.networks.images.expert_heads import ExpertClassifier
from kdlight.networks.images.feature_pool import ConvEncoder
from kdlight.networks.images.text_classifier import ImageTextEncoder, TextClassifier
from kdlight.networks.images.vit import MaskedAutoencoder, ViT
from kdlight.training.optim import Optimization
from modules.vision.caption_training import CaptionTraining
from modules.vision.classifier_training import ClassifierTraining
from modules.vision.dataset_distillation import DatasetDistillation
from modules.vision.expert_distillation import ExpertDistillation
from modules.vision.logit_distillation import LogitDistillation
from modules.vision.masked_autoencoding import MaskedAutoencoding
from modules.vision.masked_distillation import MaskedDistillation
from modules.vision.preference_distillation import PreferenceDistillation
from modules.vision.shift_distillation import ShiftDistillation
from modules.vision.text_aligned_distillation import TextAlignedDistillation
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


def shift_distillation(**kwargs: Any) -> ShiftDistillation:
    return ShiftDistillation(
        network(2),
        network(1),
        Optimization(lr=3e-3, decay="cosine"),
        mixed_at="trunk.0",
        iterations=20,
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


class TinyImageText(ImageTextEncoder):
    """A linear map of images; a text is its first letter."""

    width = 3

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.image, self.text = nn.Linear(16, 3), nn.Embedding(26, 3)

    def image_features(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.image(image.flatten(1))
        return found

    def text_features(self, texts: list[str]) -> torch.Tensor:
        found: torch.Tensor = self.text(torch.tensor([ord(text[0]) - 97 for text in texts]))
        return found


def text_aligned_distillation(**kwargs: Any) -> TextAlignedDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        seen = SmallClassifier(size=4, num_classes=3, width=4, features=4)
    for part in seen.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return TextAlignedDistillation(
        TinyImageText(),
        TextClassifier(seen, 2),
        Optimization(lr=3e-3, decay="cosine"),
        texts=["a", "b"],
        iterations=20,
        augmentation=AffineAugmentation(),
        ema_half_life=3.0,
        **kwargs,
    )


class TinyCaptions(TinyImages):
    """Images with two captions of three words each."""

    def train_dataloader(self) -> StreamLoader:
        loader = super().train_dataloader()
        assert isinstance(loader.data, dict)
        label = loader.data["label"]
        count = torch.arange(len(label))
        for name, named in (("tokens", label), ("worse", 1 - label)):
            loader.data[name] = torch.stack([0 * count, 1 + named, 3 + count % 2], dim=1)
        return loader


def tiny_captions(batch_size: int = BATCH) -> L.LightningDataModule:
    return TinyCaptions(batch_size)


def captioner(seed: int, experts: int = 1) -> Captioner:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Captioner(5, 3, size=4, patch_size=4, width=8, depth=1, heads=2, experts=experts)


def caption_training(**kwargs: Any) -> CaptionTraining:
    optimizer = Optimization(lr=3e-3, decay="cosine")
    return CaptionTraining(captioner(1), optimizer, 20, ema_half_life=3.0, **kwargs)


def preference_distillation(**kwargs: Any) -> PreferenceDistillation:
    return PreferenceDistillation(
        captioner(2),
        captioner(1, experts=3),
        Optimization(lr=3e-3, decay="cosine"),
        mimic_iterations=9,
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def encoder(seed: int, width: int, depth: int) -> ViT:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ViT(size=4, patch_size=1, width=width, depth=depth, heads=2)


def masked_autoencoder() -> MaskedAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MaskedAutoencoder(encoder(1, 4, 2), width=4, heads=2)


def masked_autoencoding(**kwargs: Any) -> MaskedAutoencoding:
    return MaskedAutoencoding(
        masked_autoencoder(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def masked_distillation(**kwargs: Any) -> MaskedDistillation:
    return MaskedDistillation(
        encoder(2, 8, 3),
        masked_autoencoder(),
        # Without an offset Adam makes whole steps of the rounding of small gradients.
        Optimization(lr=3e-3, eps=1e-3, decay="cosine"),
        iterations=20,
        relations=0.5,
        relation_teacher=encoder(3, 8, 2),
        ema_half_life=3.0,
        **kwargs,
    )


def expert_distillation(**kwargs: Any) -> ExpertDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = ExpertClassifier(network(1), experts=3)
    return ExpertDistillation(
        student,
        Optimization(lr=3e-3, decay="cosine"),
        AffineAugmentation(shift=0.3),
        consistency_warmup=5,
        class_counts=[30, 10],
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def dataset_distillation(**kwargs: Any) -> DatasetDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        like = ConvEncoder(size=4, outputs=4, width=3, features=5)
        return DatasetDistillation(
            encoder(2, 4, 1),
            like,
            Optimization(lr=3e-3, decay="linear"),
            count=3,
            pool_size=2,
            life=4,
            ridge=1e-2,
            iterations=20,
            **kwargs,
        )


VISION = {
    "dataset_distillation": Case(dataset_distillation, 20),
    "expert_distillation": Case(expert_distillation, 20),
    "masked_autoencoding": Case(masked_autoencoding, 20),
    "masked_distillation": Case(masked_distillation, 20),
    "classifier_training": Case(classifier_training, 20),
    "caption_training": Case(caption_training, 20, data_module=tiny_captions),
    "preference_distillation": Case(
        preference_distillation, 20, boundaries=(9,), data_module=tiny_captions
    ),
    "text_aligned_distillation": Case(text_aligned_distillation, 20, data_module=partly_labelled),
    "shift_distillation": Case(shift_distillation, 20, data_module=partly_labelled),
    "image_logit_distillation": Case(logit_distillation, 20, data_module=partly_labelled),
}
