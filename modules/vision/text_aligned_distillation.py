"""A small image encoder learns the space of a model of images and texts, classes being texts."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlight.core.ranges import NonNegativeFloat, PositiveInt
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.losses.guidance import global_contrastive_loss
from kdlight.losses.language.truncated import top_k
from kdlight.networks.images.classifier import Classifier
from kdlight.networks.images.text_classifier import (
    ImageTextEncoder,
    SpokenClassifier,
    TextClassifier,
    cosine_scores,
)
from kdlight.training.base import Batch
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.base import ClassifierModule, labelled_cross_entropy, mean_of


class TextAlignedDistillation(ClassifierModule):
    """Distillation of large vision-language models for classes never seen (arXiv:2307.03135).

    With unit features ``v`` of the student, ``w`` of the teacher and texts ``t``:

        loss = classes * cross-entropy(v t / tau, label)
               + distance * mean |v - w|^2
               + contrast * InfoNCE(v, w) over the joint batch, both ways
               + alignment * mean of KL(w t / tau || v t / tau) on the teacher's k likeliest texts

    the last over images that the teacher classifies right, as in the released program; the distance
    and the contrast are over all. Texts of classes that are not trained on take no part. A class is
    recognised by its text, so that one without an image can be.

    Args:
        teacher: Its images and texts lie in one space.
        student: Its encoder is as wide as the teacher's features.
        optimizer: Settings of the student's optimizer.
        classes: Weight of the labels.
        distance: Weight of the squared distance.
        contrast: Weight of the contrast.
        alignment: Weight of the alignment to the teacher's word on texts.
        k: Texts that are kept in it.
        template: Text of a class, around its name.
        texts: A text for each class; None for the names of the data's classes in the template.
        iterations: Training batches.
        augmentation: Augmentation of the images, the same for teacher and student.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The student is not as wide as the teacher, no weight is above 0, or, before
            training starts, not as many texts as classes.
    """

    known: Tensor

    def __init__(
        self,
        teacher: ImageTextEncoder,
        student: TextClassifier,
        optimizer: Optimization,
        classes: NonNegativeFloat = 1.0,
        distance: NonNegativeFloat = 1.0,
        contrast: NonNegativeFloat = 1.0,
        alignment: NonNegativeFloat = 1.0,
        k: PositiveInt = 256,
        template: str = "a photo of {}",
        texts: Sequence[str] | None = None,
        iterations: int = 3000,
        augmentation: AffineAugmentation | None = None,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        if student.encoder.num_classes != teacher.width:
            raise InputError(
                f"student: expected an encoder of num_classes {teacher.width}, the teacher's "
                f"features, found {student.encoder.num_classes}."
            )
        weights = (classes, distance, contrast, alignment)
        if not sum(weights):
            raise InputError("classes, distance, contrast, alignment: expected one above 0.")
        self.classes, self.distance, self.contrast, self.alignment = weights
        self.k, self.template = k, template
        self.texts = None if texts is None else list(texts)
        self.add_frozen("teacher", teacher)
        self.student = student
        every = torch.ones(student.num_classes, dtype=torch.bool)
        self.register_buffer("known", every, persistent=False)
        self.augmentation = augmentation
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def setup(self, stage: str) -> None:
        self.require_classes()
        data = data_of(self.trainer)
        texts = self.texts or [self.template.format(name) for name in data.class_names]
        if len(texts) != self.student.num_classes:
            raise InputError(
                f"student.num_classes: expected the {len(texts)} texts of the data's classes, "
                f"found {self.student.num_classes}."
            )
        with torch.no_grad():
            features = F.normalize(self.both.text_features(texts).float(), dim=1)
        for model in (self.student, self.ema.module):
            model.texts.copy_(features)
        seen = getattr(data, "groups", {}).get("seen")
        if seen is not None:
            self.known.zero_()[seen] = True

    def step(self, batch: Batch) -> None:
        image, label = self.augmented(batch["image"], self.augmentation), batch["label"]
        with torch.no_grad():
            taught = F.normalize(self.both.image_features(image).float(), dim=1)
        own = self.student.features(image)
        own_scores, scores = (
            cosine_scores(each, self.student.texts, self.student.temperature)[:, self.known]
            for each in (own, taught)
        )
        # Labels among the texts that take part.
        place = torch.where(label < 0, label, (self.known.cumsum(0) - 1)[label])
        right = scores.argmax(dim=1) == place
        said, law = scores.log_softmax(dim=1), own_scores.log_softmax(dim=1)
        terms = {
            "classes": labelled_cross_entropy(own_scores, place),
            "distance": (own - taught).square().sum(dim=1).mean(),
            "contrast": global_contrastive_loss(
                own[:, None], taught[:, None], None, self.student.temperature
            ),
            "alignment": mean_of(top_k(said, law, self.k, "renormalised"), right),
        }
        weighed = [getattr(self, name) * value for name, value in terms.items()]
        self.optimize("student", torch.stack(weighed).sum())
        self.report({name: value.detach() for name, value in terms.items()})

    @property
    def both(self) -> ImageTextEncoder:
        """The teacher."""
        found = self.get_submodule("teacher")
        assert isinstance(found, ImageTextEncoder)
        return found

    def teacher_classifier(self) -> Classifier:
        return SpokenClassifier(self.both, self.student.texts, self.student.temperature)

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        return {"ema.module": ("student", self.ema.module)}
