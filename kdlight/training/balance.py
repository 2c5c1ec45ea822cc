"""Do the terms of a summed loss pull a generated sample equally hard?"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from kdlight.core.ranks import joint_sum
from kdlight.errors import InputError


class LossBalance:
    """Measures the gradient of every term at a generated sample, and warns of lopsided sums.

    Loss values say little about the balance of a sum: a large term may be flat. What trains the
    generator is the gradient that each term sends into its sample x; the adaptive weight of VQGAN
    (arXiv:2012.09841, equation 7) balances terms by the same norms, at a layer in place of x.

    A method that sums terms takes one of these, and at every update that is :meth:`due` measures
    before its backward pass, and reports, ``logged(gradients(x, terms))``.

    Args:
        every: Updates of the generator from one measurement to the next, the first one measured.
            A measurement costs a backward pass of every term from the loss to x.
        threshold: Largest over smallest norm from which on the sum is lopsided.
    """

    def __init__(self, every: int = 50, threshold: float = 100.0) -> None:
        if every < 1:
            raise InputError(f"every: expected a number of updates of at least 1, found {every}.")
        if not 1 < threshold < math.inf:
            raise InputError(f"threshold: expected a finite ratio above 1, found {threshold:g}.")
        self.every = every
        self.threshold = threshold

    def due(self, update: int) -> bool:
        """Whether to measure in the generator's update number ``update``, from 0, on every rank."""
        return update % self.every == 0

    def gradients(self, x: Tensor, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Euclidean norm of d(term)/dx over the joint batch of all ranks.

        All ranks have to call it, with the same terms and batches of one size. The graph is kept
        for the backward pass, and no gradient is left in x or in any parameter.

        Args:
            x: Generated samples of this rank, (B, ...), from which the terms were computed.
            terms: Scalars, each weighted already and the mean over the local batch.

        Returns:
            For each term a norm, (), float64: 0 for one that does not depend on x.
        """
        squares = [self._square(x, term) for term in terms.values()]
        # The joint batch is `ranks` times the local one, and its mean divides by as much.
        ranks = joint_sum(torch.ones((), device=x.device, dtype=torch.float64))
        norms = joint_sum(torch.stack(squares)).sqrt() / ranks
        return dict(zip(terms, norms, strict=True))

    @staticmethod
    def _square(x: Tensor, term: Tensor) -> Tensor:
        zero = torch.zeros((), device=x.device, dtype=torch.float64)
        if not term.requires_grad:
            return zero
        (gradient,) = torch.autograd.grad(term, x, retain_graph=True, allow_unused=True)
        return zero if gradient is None else gradient.detach().double().square().sum()

    def ratio(self, norms: Mapping[str, Tensor | float]) -> float:
        """Largest over smallest norm: infinite if one is 0, NaN if one is not finite."""
        values = [float(norm) for norm in norms.values()]
        if not all(map(math.isfinite, values)):
            return math.nan
        return max(values) / min(values) if min(values) > 0 else math.inf

    def logged(self, norms: Mapping[str, Tensor | float]) -> dict[str, Tensor | float]:
        """``balance/<term>``, ``balance/ratio`` and ``balance/threshold``, for a method's report.

        Raises:
            InputError: A term is called ``ratio`` or ``threshold``.
        """
        for name in ("ratio", "threshold"):
            if name in norms:
                raise InputError(f"terms: expected other names than {name!r}, which is a key here.")
        logged: dict[str, Tensor | float] = {f"balance/{name}": norms[name] for name in norms}
        return logged | {
            "balance/ratio": self.ratio(norms),
            "balance/threshold": self.threshold,
        }

    def warning(self, norms: Mapping[str, Tensor | float]) -> str | None:
        """One sentence that names the terms of a lopsided sum; None if it is balanced."""
        values = {name: float(norm) for name, norm in norms.items()}
        for what, wrong in (
            ("that is not finite", [k for k, v in values.items() if not math.isfinite(v)]),
            ("of zero", [k for k, v in values.items() if v == 0]),
        ):
            if wrong:
                return f"loss balance: {' and '.join(wrong)} had a gradient {what} at the sample."
        if len(values) < 2 or self.ratio(norms) <= self.threshold:
            return None
        largest, smallest = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
        return (
            f"loss balance: the gradient of {largest} at the sample is {self.ratio(norms):.3g} "
            f"times that of {smallest}, more than {self.threshold:g}; change their weights."
        )
