"""EnCodec's loss balancer: weights say how hard a term pulls, whatever its scale."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdlight.core.ranks import joint_sum
from kdlight.errors import InputError


class GradientBalancer(nn.Module):
    """Rescales the gradient of every term at the decoded audio (arXiv:2210.13438, equation 6).

    ``g_i = d l_i / d x``; what reaches the network is ``sum_i w_i / sum_j w_j * g_i / <|g_i|>``,
    with the norm |.| of one item and its moving average <.> over batches. So the share of a term
    is its weight, and no term's units matter.

    EnCodec's code sends the sum over items back; here it is the mean, as for any other loss, so
    that terms outside the balancer (commitment) keep their weight when the batch or the number of
    ranks changes. Norms are means over the joint batch.

    Args:
        decay: Of the moving average of norms.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InputError(f"decay: expected a number in [0, 1), found {decay}.")
        self.decay = decay
        self.norms: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def forward(
        self, x: Tensor, terms: Mapping[str, Tensor], weights: Mapping[str, float]
    ) -> Tensor:
        """A scalar whose gradient in x is the balanced one.

        Args:
            x: Decoded audio (B, 1, T) from which the terms were computed; its graph is kept.
            terms: Scalars, means over the local batch, not weighted.
            weights: Of each term.
        """
        total = torch.zeros_like(x)
        whole = sum(weights[name] for name in terms)
        for name, term in terms.items():
            (gradient,) = torch.autograd.grad(term, x, retain_graph=True)
            gradient = gradient * len(x)  # of an item's own loss
            norm = gradient.flatten(1).norm(dim=1).mean()
            # The slope of |NaN| is 0: a term that is no number can have a finite gradient.
            norm = self._average(name, norm + 0 * term.detach())
            total += weights[name] / whole * gradient / norm.clamp(min=1e-12)
        return (x * total).sum() / len(x)

    def _average(self, name: str, norm: Tensor) -> Tensor:
        """Bias-corrected moving average of a term's norm; one that is not finite is left out."""
        joint = joint_sum(torch.stack([norm.detach().float(), torch.ones_like(norm).float()]))
        mean = joint[0] / joint[1]
        before = self.norms.get(name, torch.zeros_like(mean)).to(mean.device)
        count = self.counts.get(name, 0)
        if mean.isfinite():
            before = self.decay * before + (1 - self.decay) * mean
            count += 1
            self.norms[name], self.counts[name] = before, count
        return before / (1 - self.decay ** max(count, 1))

    def get_extra_state(self) -> dict[str, dict[str, Tensor | int]]:
        return {name: {"norm": self.norms[name], "count": self.counts[name]} for name in self.norms}

    def set_extra_state(self, state: dict[str, dict[str, Tensor | int]]) -> None:
        self.norms = {name: torch.as_tensor(each["norm"]) for name, each in state.items()}
        self.counts = {name: int(each["count"]) for name, each in state.items()}
