"""Masked diffusion (Sahoo et al., arXiv:2406.07524; Zheng et al., arXiv:2409.02908)."""

from typing import Literal

from kdlight.core.ranks import joint_mean
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.masking import mask_by_count, mask_by_time, stratified_counts
from kdlight.losses.masked_tokens import bound_by_count, bound_by_time
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule, chosen

EARLIEST = 1e-3
"""Least time of the bound by time (MDLM's), below which its weight ``1 / t`` has no variance."""


class MaskedDiffusionTraining(TokenModule):
    """Trains a denoiser of masked tokens by its bound on the likelihood.

    The network is not told the time. ``count`` masks exactly n of L tokens, n even over the batch,
    weighed by L / n: the time-free form, unbiased and of little variance. ``time`` is MDLM's and
    SMDM's: every token is masked with probability t, weighed by 1 / t. Only tokens that are scored
    (``batch["mask"]``) are masked; the loss is a mean over those of the joint batch.

    Args:
        denoiser: The model.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        corruption: Which form of the bound.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        denoiser: MaskedDenoiser,
        optimizer: Optimization,
        iterations: int = 3000,
        corruption: Literal["count", "time"] = "count",
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"denoiser": optimizer}, accumulate, seed, max_non_finite)
        self.denoiser = denoiser
        self.corruption = corruption
        self.ema = EMA(denoiser, ema_half_life)
        self.average("denoiser", self.ema)

    def step(self, batch: Batch) -> None:
        tokens, mask = batch["tokens"], self.denoiser.vocabulary
        scored = self.scored(batch)
        length = scored.sum(dim=1)
        even = self.noise.stratified(len(tokens))
        # What is not scored, such as a prompt, is never masked.
        uniform = self.masked_uniform(tokens).masked_fill(~scored, 2.0)
        if self.corruption == "count":
            seen = mask_by_count(tokens, stratified_counts(even, length), uniform, mask)
        else:
            time = EARLIEST + (1 - EARLIEST) * even
            seen = mask_by_time(tokens, time, uniform, mask)
        masked = seen != tokens
        log_prob = chosen(self.denoiser(seen), tokens, masked)
        if self.corruption == "count":
            bound = bound_by_count(log_prob, masked, length)
        else:
            bound = bound_by_time(log_prob, masked, time.to(log_prob.dtype))
        loss = joint_mean(bound / length.clamp(min=1), length.to(bound.dtype))
        self.optimize("denoiser", loss)
        self.report({"bound": loss.detach()})

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("denoiser", TokenGenerator(self.ema.module))}
