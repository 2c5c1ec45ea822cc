"""What a language model says of the next token, held against the truth and against its teacher."""

import torch
from torch import Tensor

from kdlight.losses.language.divergences import forward_kl, total_variation
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.language.calibration import BINS, GRID, binned, binned_error, smooth_error


class NextTokenFit(SampleMetric):
    """Laws of the next token on given sentences, in nats a token or shares in [0, 1].

    ``golden_kl``: KL(truth || model), exact, where the truth is known: 0 is a perfect model, and
    unlike the likelihood it has no noise of the sentences. ``proxy_kl``: KL(teacher || model), what
    distillation makes small. ``acceptance``: mean of ``sum min(teacher, model)``, how often
    the teacher takes a token that the model drafts (arXiv:2211.17192, theorem 3.5).
    ``label_loyalty``: how often both have the same likeliest token (arXiv:2109.03228). ``ece``:
    gap between confidence, the largest probability, and how often that token is right, over 15 bins
    of equal width; with the truth known "how often" is its exact probability, else the sentence's
    token; ``smooth_ece`` the same without bins. ``perplexity``: of the sentences.

    Args:
        golden: Whether updates bring the truth.
        teacher: Whether updates bring a teacher's law.
    """

    sums: Tensor
    count: Tensor
    bins: Tensor
    grid: Tensor

    def __init__(self, golden: bool, teacher: bool) -> None:
        super().__init__()
        names = ["perplexity"]
        names += ["golden_kl"] if golden else []
        names += ["proxy_kl", "acceptance", "label_loyalty"] if teacher else []
        self.summed = tuple(names)
        self.names = (*names, "ece", "smooth_ece")
        self.add_sums(sums=(len(names),), count=(), bins=(BINS, 2), grid=(GRID, 2))

    def update(
        self,
        logits: Tensor,
        tokens: Tensor,
        mask: Tensor,
        golden: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> None:
        """Add sentences.

        Args:
            logits: Of the model, (B, T, V), of token t at place t.
            tokens: (B, T) int64.
            mask: Which are scored, (B, T) bool.
            golden: Log-probabilities of the truth, (B, T, V).
            teacher: Logits of the teacher, (B, T, V).
        """
        finite = logits.isfinite().all(dim=2)
        self.add_to("non_finite", (mask & ~finite).sum())
        mask = mask & finite
        log_q = logits[mask].double().log_softmax(dim=1)
        own = log_q.gather(1, tokens[mask][:, None])[:, 0]
        truth = None if golden is None else golden[mask].double()
        found = {"perplexity": -own}
        if truth is not None:
            found["golden_kl"] = forward_kl(truth, log_q)
        if teacher is not None:
            log_p = teacher[mask].double().log_softmax(dim=1)
            found["proxy_kl"] = forward_kl(log_p, log_q)
            found["acceptance"] = 1 - total_variation(log_p, log_q)
            found["label_loyalty"] = torch.eq(log_p.argmax(dim=1), log_q.argmax(dim=1)).double()
        self.add_to("sums", torch.stack([found[name].sum() for name in self.summed]))
        self.add_to("count", len(own))
        top = log_q.max(dim=1)
        if truth is None:
            right = torch.eq(top.indices, tokens[mask]).double()
        else:
            right = truth.gather(1, top.indices[:, None])[:, 0].exp()
        for name, places in (("bins", BINS), ("grid", GRID)):
            self.add_to(name, binned(top.values.exp(), right, places))

    def enough(self) -> bool:
        return bool(self.count > 0)

    def figures(self) -> dict[str, Tensor]:
        found = dict(zip(self.summed, self.sums / self.count, strict=True))
        found["perplexity"] = found["perplexity"].exp()
        found["ece"] = binned_error(self.bins, self.count)
        found["smooth_ece"] = smooth_error(self.grid, self.count)
        return found
