"""A classifier learns from a teacher on images of another origin, as the teacher's own are gone."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat, Probability
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.losses.guidance import global_contrastive_loss
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.shift import mixed_statistics, surest, used_feature_error
from kdlight.networks.images.classifier import Classifier, class_layer, with_features
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.base import ClassifierModule, check_classes, mean_of


class ShiftDistillation(ClassifierModule):
    """KD3 (Tang et al., arXiv:2307.11469): distillation with images off the web.

        kept = images of which (1 - v) teacher + v student is surer than of others of the class
        loss = mean over kept of KL(teacher || student)
               + features * mean over kept of used_feature_error(student, teacher)
               + contrast * InfoNCE(image, its copy of mixed statistics), among kept

    with the teacher's class layer for the student's own. The student's vote v grows with the run,
    as what rejects nonsense has to be learnt first. No label is read: where the data have labels
    below 0 for images of no class, ``train/kept_of_class`` says which share of the kept has one.

    Its program was not released. The paper selects once an epoch, here every batch. How it sets
    the threshold of a class is not given where it was read, nor the law of the share that is mixed:
    here the batch's mean and uniform.

    Args:
        teacher: Its features and class layer are learnt from.
        student: A classifier whose class layer reads as many features as the teacher's.
        optimizer: Settings of the student's optimizer.
        threshold: Kept is what reaches so many times the mean confidence of its class; 0 keeps
            all, the control.
        vote: The student's vote at the end of the run; 0 leaves the choice to the teacher.
        shared_head: Whether the student has the teacher's class layer, or one that it learns.
        features: Weight of the features.
        contrast: Weight of MixDistribution's contrast.
        mixed_at: Name of the student's module whose output is mixed; None for the images.
        temperature: Of the contrast.
        iterations: Training batches.
        augmentation: Augmentation of the images, the same for teacher and student.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other classes or unlike features, or there is no such
            module.
    """

    def __init__(
        self,
        teacher: Classifier,
        student: Classifier,
        optimizer: Optimization,
        threshold: NonNegativeFloat = 1.0,
        vote: Probability = 0.5,
        shared_head: bool = True,
        features: NonNegativeFloat = 1.0,
        contrast: NonNegativeFloat = 0.1,
        mixed_at: str | None = None,
        temperature: PositiveFloat = 0.1,
        iterations: int = 3000,
        augmentation: AffineAugmentation | None = None,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        check_classes(teacher, student)
        self.add_frozen("teacher", teacher)
        own, given = class_layer(student), class_layer(teacher)
        if own.in_features != given.in_features and (shared_head or features):
            raise InputError(
                f"student: expected a class layer of the teacher's {given.in_features} features, "
                f"found {own.in_features}; or shared_head false and features 0."
            )
        if shared_head:
            own.load_state_dict(given.state_dict())
            own.requires_grad_(False)
        names = dict(student.named_modules())
        if mixed_at is not None and mixed_at not in names:
            raise InputError(f"mixed_at: expected a module of the student, found {mixed_at!r}.")
        self.student = student
        self.threshold, self.vote = threshold, vote
        self.features, self.contrast = features, contrast
        self.mixed_at, self.temperature = mixed_at, temperature
        self.augmentation = augmentation
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        image = self.augmented(batch["image"], self.augmentation)
        teacher = self.teacher_classifier()
        with torch.no_grad():
            taught, said = with_features(teacher, image)
        seen, scores = with_features(self.student, image)
        vote = self.vote * self.iteration / self.iterations
        kept = surest(said, scores, vote, self.threshold)
        each = forward_kl(said.log_softmax(dim=1), scores.log_softmax(dim=1))
        terms = {"distillation": mean_of(each, kept)}
        if self.features:
            error = used_feature_error(seen, taught, class_layer(teacher).weight)
            terms["features"] = self.features * mean_of(error, kept)
        if self.contrast:
            with self.mixed(len(image)):
                other, _ = with_features(self.student, image)
            views = (seen[:, None], other[:, None])
            nce = global_contrastive_loss(*views, kept[:, None], self.temperature)
            terms["contrast"] = self.contrast * nce
        self.optimize("student", torch.stack(list(terms.values())).sum())
        known = kept & (batch["label"] >= 0)
        shares = {"kept": kept.float().mean(), "kept_of_class": known.sum() / kept.sum()}
        self.report({name: value.detach() for name, value in terms.items()} | shares)

    @contextlib.contextmanager
    def mixed(self, count: int) -> Iterator[None]:
        """Within it the student sees mixed statistics."""
        order, share = self.noise.uniform(count), self.noise.uniform(count)

        def mix(maps: Tensor) -> Tensor:
            return mixed_statistics(maps, order, share)

        if self.mixed_at is None:
            hook = self.student.register_forward_pre_hook(lambda _, inputs: mix(inputs[0]))
        else:
            place = self.student.get_submodule(self.mixed_at)
            hook = place.register_forward_hook(lambda _, inputs, output: mix(output))
        try:
            yield
        finally:
            hook.remove()

    def trained(self, name: str) -> list[nn.Parameter]:
        """The student's parameters but those of a shared class layer."""
        return [each for each in self.student.parameters() if each.requires_grad]

    def teacher_classifier(self) -> Classifier:
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, Classifier)
        return teacher

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        return {"ema.module": ("student", self.ema.module)}
