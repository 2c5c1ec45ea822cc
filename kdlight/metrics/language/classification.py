"""What a classifier of texts or tokens says, held against labels, the truth and its teachers."""

import math

import torch
from torch import Tensor

from kdlight.losses.language.divergences import forward_kl, jensen_shannon
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.language.calibration import BINS, GRID, binned, binned_error, smooth_error


class TextClassificationFit(SampleMetric):
    """Shares in [0, 1], and nats a text; of a classifier of tokens, which are its rows, a token.

    ``class_accuracy``; ``macro_f1``, the plain mean of the F1 of every class that is a label or is
    said, so that rare ones count as much as common ones; ``ece`` and ``smooth_ece``, the gap
    between confidence and how often the likeliest class is right, over 15 bins and without bins,
    against the truth's own probability where it is known. ``golden_kl``: KL(truth || model), exact,
    where the truth is known.

    Against the teacher (Xu et al., arXiv:2109.03228; in the Romanian DistilBERTs,
    arXiv:2112.12650): ``label_loyalty``, how often both have the same likeliest class;
    ``probability_loyalty``, the mean of ``1 - sqrt(JS)`` in bits, so that it lies in [0, 1] (in
    nats the least is 0.167; scipy's ``jensenshannon`` is a root already); and ``proxy_kl``,
    KL(teacher || model).

    Args:
        classes: Classes C.
        golden: Whether updates bring the truth.
        teacher: Whether updates bring a teacher's law.
    """

    sums: Tensor
    count: Tensor
    bins: Tensor
    grid: Tensor
    said: Tensor

    def __init__(self, classes: int, golden: bool, teacher: bool) -> None:
        super().__init__()
        names = ["class_accuracy"]
        names += ["golden_kl"] if golden else []
        names += ["proxy_kl", "label_loyalty", "probability_loyalty"] if teacher else []
        self.summed = tuple(names)
        self.names = (*names, "macro_f1", "ece", "smooth_ece")
        self.add_sums(
            sums=(len(names),), count=(), bins=(BINS, 2), grid=(GRID, 2), said=(2, classes)
        )

    def update(
        self,
        logits: Tensor,
        label: Tensor,
        golden: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> None:
        """Add texts.

        Args:
            logits: Of the model, (B, C).
            label: (B,) int64.
            golden: Log-probabilities of the truth, (B, C).
            teacher: Log-probabilities of the teacher, (B, C).
        """
        finite = logits.isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        log_q = logits[finite].double().log_softmax(dim=1)
        top = log_q.max(dim=1)
        hit = torch.eq(top.indices, label[finite]).double()
        found, right = {"class_accuracy": hit}, hit
        if golden is not None:
            truth = golden[finite].double()
            found["golden_kl"] = forward_kl(truth, log_q)
            right = truth.gather(1, top.indices[:, None])[:, 0].exp()
        if teacher is not None:
            log_p = teacher[finite].double()
            found["proxy_kl"] = forward_kl(log_p, log_q)
            found["label_loyalty"] = torch.eq(log_p.argmax(dim=1), top.indices).double()
            found["probability_loyalty"] = probability_loyalty(log_p, log_q)
        self.add_to("sums", torch.stack([found[name].sum() for name in self.summed]))
        self.add_to("count", len(hit))
        classes = self.said.shape[1]
        told = [top.indices, label[finite], top.indices[hit > 0]]
        tallies = [each.bincount(minlength=classes) for each in told]
        # Twice the hits of a class, and how often it was said plus how often it was right.
        self.add_to("said", torch.stack([2 * tallies[2], tallies[0] + tallies[1]]))
        for name, places in (("bins", BINS), ("grid", GRID)):
            self.add_to(name, binned(top.values.exp(), right, places))

    def enough(self) -> bool:
        return bool(self.count > 0)

    def figures(self) -> dict[str, Tensor]:
        found = dict(zip(self.summed, self.sums / self.count, strict=True))
        hits, known = self.said[:, self.said[1] > 0].double()
        found["macro_f1"] = (hits / known).mean()
        found["ece"] = binned_error(self.bins, self.count)
        found["smooth_ece"] = smooth_error(self.grid, self.count)
        return found


def probability_loyalty(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``1 - sqrt(JS(p, q))`` in bits, (...), of log-probabilities (..., C)."""
    bits = jensen_shannon(log_p, log_q).clamp(min=0) / math.log(2)
    return 1 - bits.sqrt()
