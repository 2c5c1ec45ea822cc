"""What all methods of recognition have in common: training ends in classifiers."""

from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranks import joint_mean, joint_sum
from kdlight.diffusion.augmentation import AffineAugmentation
from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.training.base import Batch, DistillationModule


class ClassifierModule(DistillationModule):
    """Base of the methods that train classifiers, with or without a teacher.

    A method defines :meth:`classifiers`, and with a teacher :meth:`teacher_classifier`.
    """

    def classifiers(self) -> dict[str, tuple[str, Classifier]]:
        """What training ends in.

        Returns:
            For a state-dict prefix: a name ("student") and the classifier below it.
        """
        raise NotImplementedError

    def teacher_classifier(self) -> Classifier | None:
        """The teacher, to compare with; None if there is none."""
        return None

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.classifiers())

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Classes that the first classifier sees, (B,) int64."""
        _, classifier = next(iter(self.classifiers().values()))
        guess: Tensor = classifier(batch["image"]).argmax(dim=1)
        return guess

    def require_classes(self) -> None:
        """Refuse data without classes.

        Raises:
            InputError: The run's data have none.
        """
        data = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        if getattr(data, "num_classes", None) == 0:
            raise InputError(
                f"data: expected images with classes, which {type(self).__name__} learns, found "
                f"a {type(data).__name__} without."
            )

    def require_labels(self) -> None:
        """Refuse data with images that have no label.

        Raises:
            InputError: The run's data have such images, or no classes at all.
        """
        self.require_classes()
        data = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        if not getattr(data, "all_labelled", True):
            raise InputError(
                f"data: expected a label for every image, which {type(self).__name__} learns, "
                f"found a {type(data).__name__} with images without; part: labelled takes the "
                "others."
            )

    def augmented(self, image: Tensor, augmentation: AffineAugmentation | None) -> Tensor:
        """Images after an augmentation that the classifier is not told of."""
        if augmentation is None:
            return image
        draws = self.noise.normal(image.new_empty(len(image), augmentation.draws))
        return augmentation(image, draws, self.noise.uniform(len(image)))[0]


def labelled_cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    """Mean of -log q(label) over the labelled images of the joint batch; 0 if none is.

    Args:
        scores: (B, C).
        label: (B,) int64; below 0 for an image without.
    """
    each = F.cross_entropy(scores, label.clamp(min=0), reduction="none")
    return mean_of(each, label >= 0)


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """This rank's share of the mean over what counts in the joint batch; 0 if nothing does.

    Args:
        values: (B,).
        counted: Which of them count, (B,) bool.
    """
    weights = counted.to(values.dtype)
    if joint_sum(weights.sum()) == 0:
        return (0 * values).sum()  # with a gradient, of zeros
    return joint_mean(values, weights)


def check_classes(teacher: Classifier, student: Classifier) -> None:
    """Both tell the same classes apart.

    Raises:
        InputError: They have unlike numbers of them.
    """
    if teacher.num_classes != student.num_classes:
        raise InputError(
            f"student: expected the teacher's {teacher.num_classes} classes, found "
            f"{student.num_classes}."
        )
