"""Heads for common, middling and rare classes on one trunk, each taught by its own weak view."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.losses.long_tail import adjusted, confident_consistency
from kdlight.networks.images.classifier import Classifier
from kdlight.networks.images.expert_heads import ExpertClassifier
from kdlight.training.base import Batch
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.base import ClassifierModule, mean_of


class ExpertDistillation(ClassifierModule):
    """MDCS (Zhao et al., arXiv:2308.09922) for long-tailed data.

        loss = sum over heads j and views of cross-entropy(scores_j + strength_j * log counts)
               + consistency * sum over heads of KL(weak view || strong view), where head j is right

    Diversity: the heads' strengths. Whose mean is 1, as -0.5, 1 and 2.5, have a mean of scores that
    is the classifier of balanced classes. Consistency: self-distillation from the weakly to the
    strongly augmented view, on the images whose weak view that head classifies right, a mean over
    those of the joint batch. Both are of the adjusted scores, as in the released program.

    Plain logit adjustment, the control, is ``strengths: [1, 1, 1]`` and ``consistency: 0``;
    cross-entropy ``strengths: [0, 0, 0]``.

    Args:
        student: Trunk and heads.
        optimizer: Settings of its optimizer.
        strong: Augmentation of the strong view.
        weak: Augmentation of the weak view; None for the images as they are.
        strengths: One a head.
        consistency: Weight of the self-distillation.
        consistency_warmup: Iterations over which that weight rises from 0; the paper has 20 epochs.
        class_counts: Training images of each class; None for the data's own.
        iterations: Training batches.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Not as many strengths as heads; or, before training starts, data that do not
            count their classes, or a class without images.
    """

    log_counts: Tensor
    strengths: Tensor

    def __init__(
        self,
        student: ExpertClassifier,
        optimizer: Optimization,
        strong: AffineAugmentation,
        weak: AffineAugmentation | None = None,
        strengths: Sequence[float] = (-0.5, 1.0, 2.5),
        consistency: float = 0.6,
        consistency_warmup: int = 200,
        class_counts: Sequence[int] | None = None,
        iterations: int = 2000,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        if len(strengths) != student.experts:
            raise InputError(
                f"strengths: expected one for each of {student.experts} heads, found "
                f"{len(strengths)}."
            )
        if consistency < 0 or consistency_warmup < 0:
            raise InputError(
                "consistency, consistency_warmup: expected numbers of at least 0, found "
                f"{consistency} and {consistency_warmup}."
            )
        self.register_buffer("strengths", torch.tensor([float(each) for each in strengths]))
        self.register_buffer("log_counts", torch.zeros(student.num_classes))
        if class_counts is not None:
            self.count(class_counts)
        self.counted = class_counts is not None
        self.student = student
        self.weak, self.strong = weak, strong
        self.consistency, self.consistency_warmup = consistency, consistency_warmup
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def count(self, counts: Sequence[int]) -> None:
        """Take the sizes of the classes."""
        if len(counts) != len(self.log_counts) or min(counts) < 1:
            raise InputError(
                f"class_counts: expected {len(self.log_counts)} numbers above 0, found "
                f"{list(counts)}."
            )
        self.log_counts = torch.tensor(counts, device=self.log_counts.device).float().log()

    def setup(self, stage: str) -> None:
        self.require_labels()
        if self.counted:
            return
        data = data_of(self.trainer)
        counts = getattr(data, "class_counts", None)
        if counts is None:
            raise InputError(
                "model.init_args.class_counts: expected the training images of each class, as "
                f"{type(data).__name__} does not say."
            )
        self.count(counts)

    def step(self, batch: Batch) -> None:
        label = batch["label"]
        # The weak view first: it is the teacher of the strong one.
        weak, strong = (
            self.adjusted(self.augmented(batch["image"], view)) for view in (self.weak, self.strong)
        )
        heads = range(weak.shape[1])
        cross_entropy = torch.stack(
            [F.cross_entropy(view[:, head], label) for view in (weak, strong) for head in heads]
        ).sum()
        each, right = confident_consistency(weak, strong, label)
        consistency = torch.stack([mean_of(each[:, head], right[:, head]) for head in heads]).sum()
        weight = self.consistency * min(1.0, self.iteration / max(1, self.consistency_warmup))
        self.optimize("student", cross_entropy + weight * consistency)
        terms = {"cross_entropy": cross_entropy, "consistency": consistency}
        self.report({name: value.detach() for name, value in terms.items()})

    def adjusted(self, image: Tensor) -> Tensor:
        """Scores of every head as it is trained on them, (B, heads, C)."""
        return adjusted(self.student.each(image), self.log_counts, self.strengths[:, None])

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        return {"ema.module": ("student", self.ema.module)}
