"""What a classifier says of labelled images, held against the labels and against its teacher."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdlight.losses.language.divergences import forward_kl
from kdlight.metrics.base import SampleMetric

BINS = 15
"""Bins of equal width of the confidence."""


class ClassificationFit(SampleMetric):
    """Shares in [0, 1] and nats an image.

    ``top1`` and ``top5``: how often the label is the likeliest class, or among the five likeliest
    (of more than five classes). ``class_nll``: mean of -log of the label's probability. ``ece``:
    gap between confidence, the largest probability, and how often that class is right, over 15
    bins of equal width (Guo et al., arXiv:1706.04599). ``balanced_accuracy``: mean over classes of
    the share that is found; ``accuracy_<group>`` the same over a group of classes. With a teacher
    ``agreement``, how often both have the same likeliest class, and ``teacher_kl``,
    KL(teacher || model). An image whose label is below 0 has none: it counts for the last two.

    Args:
        num_classes: Number of classes.
        teacher: Whether updates bring a teacher's scores.
        labelled: Whether there are labels at all; without, only the last two are figures.
        groups: Classes of each group by its name.
    """

    sums: Tensor
    taught: Tensor
    count: Tensor
    images: Tensor
    bins: Tensor
    found: Tensor

    def __init__(
        self,
        num_classes: int,
        teacher: bool = False,
        labelled: bool = True,
        groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.groups = {name: list(classes) for name, classes in (groups or {}).items()}
        self.teacher, self.labelled = teacher, labelled
        names = ["top1", "top5"] if num_classes > 5 else ["top1"]
        names += ["class_nll", "ece", "balanced_accuracy"]
        names += [f"accuracy_{name}" for name in self.groups]
        names = names if labelled else []
        self.names = (*names, *(("agreement", "teacher_kl") if teacher else ()))
        self.add_sums(
            sums=(3,), taught=(2,), count=(), images=(), bins=(BINS, 2), found=(num_classes, 2)
        )

    def update(self, scores: Tensor, label: Tensor, teacher: Tensor | None = None) -> None:
        """Add images.

        Args:
            scores: Logits of the model, (B, C).
            label: (B,) int64; below 0 for none.
            teacher: Logits of the teacher, (B, C).
        """
        finite = scores.isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        log_q = scores[finite].double().log_softmax(dim=1)
        label = label[finite]
        if teacher is not None:
            log_p = teacher[finite].double().log_softmax(dim=1)
            same = torch.eq(log_p.argmax(dim=1), log_q.argmax(dim=1)).double()
            self.add_to("taught", torch.stack([same.sum(), forward_kl(log_p, log_q).sum()]))
        self.add_to("images", len(log_q))
        known = label >= 0
        log_q, label = log_q[known], label[known]
        likeliest = log_q.topk(min(5, self.num_classes), dim=1).indices == label[:, None]
        right = likeliest[:, 0].double()
        nll = -log_q.gather(1, label[:, None])[:, 0]
        self.add_to("sums", torch.stack([right.sum(), likeliest.double().sum(), nll.sum()]))
        self.add_to("count", len(label))
        confidence = log_q.amax(dim=1).exp()
        place = (confidence * BINS).long().clamp(max=BINS - 1)
        self.add_to("bins", _added(BINS, place, confidence, right))
        self.add_to("found", _added(self.num_classes, label, torch.ones_like(right), right))

    def enough(self) -> bool:
        return bool((self.count if self.labelled else self.images) > 0)

    def figures(self) -> dict[str, Tensor]:
        found = dict(zip(("top1", "top5", "class_nll"), self.sums / self.count, strict=True))
        found["ece"] = (self.bins[:, 0] - self.bins[:, 1]).abs().sum() / self.count
        found["balanced_accuracy"] = self._mean_share(range(self.num_classes))
        for name, classes in self.groups.items():
            found[f"accuracy_{name}"] = self._mean_share(classes)
        if self.teacher:
            found["agreement"], found["teacher_kl"] = self.taught / self.images
        return {name: found[name] for name in self.names}

    def _mean_share(self, classes: Sequence[int]) -> Tensor:
        """Mean over classes that were seen of the share that was found."""
        seen, right = self.found[list(classes)].unbind(dim=1)
        return (right[seen > 0] / seen[seen > 0]).mean()


def _added(size: int, place: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Sums of two values at each of ``size`` places, (size, 2)."""
    sums = torch.zeros(size, 2, dtype=torch.float64, device=place.device)
    return sums.index_add(0, place, torch.stack([first, second], dim=1))
