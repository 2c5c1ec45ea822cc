"""A classifier of images learns what a larger one says of them, with labels or without."""

import torch
from torch import nn

from kdlight.core.ranks import joint_sum
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.networks.images.classifier import Classifier
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.base import ClassifierModule, check_classes, labelled_cross_entropy


class LogitDistillation(ClassifierModule):
    """Distils what a teacher says of images.

        loss = distillation * mean over all images of objective(teacher, student)
               + cross_entropy * mean over the labelled ones of -log student(label)

    Knowledge distillation (Hinton et al., arXiv:1503.02531) with any objective. With the
    Jensen-Shannon divergence and no cross-entropy it is SSLD (Cui et al., arXiv:2103.05959), which
    sees no label, so that unlabelled images are as good as labelled ones. Teacher and student see
    the same crop: the teacher's opinion of another one would be the target of another image.

    Batch statistics (BatchNorm) are of a rank's own images, unless the trainer says
    ``sync_batchnorm: true``.

    Args:
        teacher: Gives the scores that are learnt from.
        student: Learns them.
        objective: What is minimised, such as :class:`~kdlight.losses.language.pointwise.ForwardKL`
            or :class:`~kdlight.losses.language.pointwise.JensenShannon`, whose gradient vanishes
            where the student is surely wrong: it wants a student that starts from random weights.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        distillation: Weight of the objective; 0 trains on labels alone, the control.
        cross_entropy: Weight of the labels' cross-entropy.
        augmentation: Augmentation of the images, the same for teacher and student.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other classes, or no weight is above 0.
    """

    def __init__(
        self,
        teacher: Classifier,
        student: Classifier,
        objective: Objective,
        optimizer: Optimization,
        iterations: int = 3000,
        distillation: float = 1.0,
        cross_entropy: float = 0.0,
        augmentation: AffineAugmentation | None = None,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        check_classes(teacher, student)
        if min(distillation, cross_entropy) < 0 or distillation + cross_entropy == 0:
            raise InputError(
                "distillation, cross_entropy: expected numbers of at least 0 that are not both 0, "
                f"found {distillation} and {cross_entropy}."
            )
        self.add_frozen("teacher", teacher)
        self.student = student
        self.objective = objective
        self.distillation, self.cross_entropy = distillation, cross_entropy
        self.augmentation = augmentation
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def setup(self, stage: str) -> None:
        if self.cross_entropy:
            self.require_classes()

    def step(self, batch: Batch) -> None:
        image, label = self.augmented(batch["image"], self.augmentation), batch["label"]
        with torch.no_grad():
            taught = self.get_submodule("teacher")(image)
        scores = self.student(image)
        # An objective may keep the true class; where there is no label, the teacher's word is.
        target = torch.where(label >= 0, label, taught.argmax(dim=1))
        every = torch.ones_like(target, dtype=torch.bool)
        # An image is a text of one token, whose vocabulary is the classes.
        each = self.objective(scores[:, None], taught[:, None], target[:, None], every[:, None])
        self.objective.observe(joint_sum(each.detach().sum()), joint_sum(every.sum()))
        distillation = each.mean()
        cross_entropy = labelled_cross_entropy(scores, label)
        self.optimize(
            "student", self.distillation * distillation + self.cross_entropy * cross_entropy
        )
        if self.updates:
            self.objective.advance((self.iteration + 1) / self.iterations)
        terms = {"distillation": distillation, "cross_entropy": cross_entropy}
        shown = {name: value.detach() for name, value in terms.items()}
        self.report(shown | self.objective.state())

    def trained(self, name: str) -> list[nn.Parameter]:
        """The student's parameters, and the objective's where it has any."""
        return [*self.student.parameters(), *self.objective.parameters()]

    def teacher_classifier(self) -> Classifier:
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, Classifier)
        return teacher

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        return {"ema.module": ("student", self.ema.module)}
