"""Training of a classifier of texts or tokens: what teachers of representations are made by."""

from torch import Tensor, nn

from kdlight.core.ranks import joint_mean
from kdlight.errors import InputError
from kdlight.networks.text.classifier import TextClassifier
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class TextClassification(DistillationModule):
    """Cross-entropy of the label, of each text or token; the average of the weights is kept.

    Args:
        classifier: The network to train, of texts or of tokens; the data's labels are of that kind.
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

    def setup(self, stage: str) -> None:
        """Refuse data that are not for this classifier.

        Raises:
            InputError: They are not.
        """
        check_data(data_of(self.trainer), self.classifier, "classifier")

    def step(self, batch: Batch) -> None:
        logits = self.classifier(batch["tokens"], batch["mask"]).logits
        loss = label_loss(logits, batch["label"], counts(logits, batch["mask"]))
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


def counts(logits: Tensor, mask: Tensor) -> Tensor:
    """What each law counts: texts as much as one another, and tokens that are no padding.

    Args:
        logits: (B, C) of texts or (B, L, C) of tokens.
        mask: Tokens that are no padding, (B, L) bool.

    Returns:
        (B,) or (B, L).
    """
    return logits.new_ones(len(logits)) if logits.ndim == 2 else mask.to(logits.dtype)


def label_loss(logits: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """This rank's share of the joint batch's mean cross-entropy.

    Args:
        logits: (..., C).
        label: (...) int64.
        weights: What each counts, (...).
    """
    log_q = logits.float().log_softmax(dim=-1)
    return joint_mean(-log_q.gather(-1, label[..., None])[..., 0], weights)


def check_data(data: object, classifier: TextClassifier, name: str) -> None:
    """The data's labels are of the classifier's kind, and its numbers suffice.

    Args:
        data: The data module.
        classifier: What learns from it.
        name: What a message calls it.

    Raises:
        InputError: They are not.
    """
    kinds = ("of texts", "of tokens")
    known = getattr(data, "per_token", classifier.per_token)
    if known != classifier.per_token:
        raise InputError(
            f"data: expected labels {kinds[classifier.per_token]} for the {name}, a "
            f"{type(classifier).__name__}, found labels {kinds[known]}."
        )
    for size in ("vocabulary", "classes"):
        most, found = getattr(classifier, size), getattr(data, size, 0)
        if found > most:
            raise InputError(
                f"data: expected at most the {size} of the {name}, {most}, found {found}."
            )
