"""One row of a table of token generators: samples, judged and timed."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.core.memory import rows_within
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.samplers import TokenSample
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.language.likelihood import HeldoutLikelihood

Row = dict[str, Any]


@torch.no_grad()
def token_row(
    name: str,
    generator: TokenGenerator,
    steps: int,
    judges: Sequence[SampleMetric],
    count: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    each: Callable[[TokenSample], None] = lambda sample: None,
) -> Row:
    """Draw ``count`` samples and judge them.

    Args:
        name: Of the model.
        generator: The model with its sampler.
        steps: Number of steps.
        judges: Metrics whose ``update`` takes tokens (B, L).
        count: Samples.
        batch_size: Samples at once.
        seed: Seed of the set.
        device: Where.
        each: Called with every batch.

    Returns:
        What was asked for, the calls that were made, the judges' figures, and the time.
    """
    on_device = [judge.to(device) for judge in judges]
    calls, spent = 0, 0.0
    for first in range(0, count, batch_size):
        start = generator.masks(min(batch_size, count - first), device)
        before = time.perf_counter()
        sample = generator(start, seed, first, steps)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent += time.perf_counter() - before
        calls += int(sample.calls.sum())
        for judge in on_device:
            judge.update(sample.tokens)
        each(sample)
    row: Row = {
        "model": name,
        "steps": steps,
        "algorithm": generator.algorithm,
        "nfe": calls / count,
    }
    for judge in on_device:
        figures = judge.compute()
        row |= {key: float(figures[key]) for key in judge.names}
    return row | {
        "ms_per_sample": 1000 * spent / count,
        "tokens_per_second": count * generator.length / spent,
    }


def heldout_figures(
    model: torch.nn.Module,
    held: dict[str, Tensor],
    batch_size: int,
    device: torch.device,
    draws: int = 1,
) -> dict[str, float]:
    """Nats a token of the held-out part under a model, and their exponential."""
    metric = HeldoutLikelihood(model, draws).to(device)
    vocabulary = getattr(model, "vocabulary", 1)
    at_once = rows_within(batch_size, held["tokens"].shape[1] * vocabulary)
    for first in range(0, len(held["tokens"]), at_once):
        part = slice(first, first + at_once)
        tokens, scored = held["tokens"][part].long(), held["mask"][part]
        metric.update(tokens.to(device), scored.to(device), first)
    return {name: float(value) for name, value in metric.compute().items() if name in metric.names}
