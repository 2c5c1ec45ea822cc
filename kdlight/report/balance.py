"""What a report says about the balance of a summed loss: ``balance/...`` of ``metrics.csv``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PREFIX = "balance/"
FACTS = ("ratio", "threshold")


@dataclass(frozen=True)
class Balance:
    """The gradients of a loss's terms at the generated sample, as a run logged them.

    Attributes:
        terms: Names of the terms.
        threshold: Largest over smallest norm that the run accepts; None where none was logged.
        sentence: Whether it was exceeded, when and by which terms.
    """

    terms: list[str]
    threshold: float | None
    sentence: str


def balance_of(logged: Mapping[str, Sequence[tuple[float, float]]]) -> Balance | None:
    """The balance of a run; None if it logged none.

    Args:
        logged: Points (iteration, value) by key.
    """
    points = {
        key.removeprefix(PREFIX): values for key, values in logged.items() if key.startswith(PREFIX)
    }
    terms = sorted(set(points) - set(FACTS))
    if not terms:
        return None
    threshold = points["threshold"][-1][1] if points.get("threshold") else None
    measured: dict[float, dict[str, float]] = {}
    for term in terms:
        for iteration, norm in points[term]:
            measured.setdefault(iteration, {})[term] = norm
    # A method that logs more often than it measures repeats its last measurement.
    seen = [None, *(measured[iteration] for iteration in sorted(measured))]
    measured = {
        iteration: norms
        for (iteration, norms), before in zip(sorted(measured.items()), seen, strict=False)
        if norms != before
    }
    return Balance(terms, threshold, _sentence(measured, threshold))


def _sentence(measured: Mapping[float, Mapping[str, float]], threshold: float | None) -> str:
    # From the norms, as an infinite ratio, that of a term without gradient, is no number to draw.
    ratios = {
        iteration: max(norms.values()) / min(norms.values()) if min(norms.values()) else math.inf
        for iteration, norms in measured.items()
        if len(norms) > 1
    }
    if not ratios:
        return "One term was measured at a time, so there is nothing to balance."
    worst = max(ratios, key=ratios.__getitem__)
    norms = measured[worst]
    largest, smallest = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    at = f"at iteration {worst:,.0f}"
    most = (
        f"{smallest} had none at all {at}"
        if ratios[worst] == math.inf
        else f"at most it was {ratios[worst]:.3g} times as large, {largest} over {smallest} {at}"
    )
    if threshold is None:
        return f"Of the largest gradient and the smallest: {most}."
    beyond = [iteration for iteration, ratio in ratios.items() if ratio > threshold]
    if not beyond:
        return f"The largest gradient never exceeded {threshold:g} times the smallest: {most}."
    when = f"from iteration {beyond[0]:,.0f} to {beyond[-1]:,.0f}"
    if len(beyond) == 1:
        when = f"at iteration {beyond[0]:,.0f}"
    return (
        f"The largest gradient exceeded {threshold:g} times the smallest in {len(beyond)} of "
        f"{len(ratios)} measurements, {when}: {most}."
    )
