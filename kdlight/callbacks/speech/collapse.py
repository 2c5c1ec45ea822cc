"""Stops a run whose codebook collapses, hours before a listener would notice."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.core.ranks import joint_sum
from kdlight.errors import InputError
from kdlight.training.base import DistillationModule


def expected_usage(draws: Tensor, codebook_size: int) -> Tensor:
    """Share of a codebook that even use shows after so many draws: ``1 - (1 - 1 / K) ** n``.

    The expected number of distinct codes among n independent draws of K alike codes, over K. So
    1,000 frames of a codebook of 65,536 are not taken for a collapse.

    Args:
        draws: Number of draws n, any shape.
        codebook_size: Number of codes K.

    Returns:
        float64 of the shape of ``draws``, 0 to 1.
    """
    if codebook_size == 1:
        return (draws > 0).double()
    missed = torch.log1p(torch.tensor(-1 / codebook_size, dtype=torch.float64))
    return -torch.expm1(draws.double() * missed.to(draws.device))


class CollapseAlarm(Ranged, L.Callback):
    """Counts the codes of all training batches and stops the run when a level uses too few.

    Over windows of iterations, all ranks together, it takes each level's number of distinct codes
    over what even use of the codebook would show. This relative usage, 0 to 1, is logged as
    ``train/usage_<level>``. A level that stays below ``limit`` for ``patience`` windows in a row
    stops the run. The module exposes ``last_codes`` (B, n, F), n <= n_q; the codec is the first
    one among its ``models()``. State is part of the checkpoint.

    Args:
        window: Iterations of a window.
        limit: Relative usage below which a level counts as collapsed, 0 to 1.
        patience: Windows in a row before the run is stopped.
        grace: Iterations at the start that are counted and logged but not judged.

    Raises:
        InputError: A number is out of range; or, before training starts, there is no codec.
        RuntimeError: A level collapsed.
    """

    def __init__(
        self,
        window: PositiveInt = 100,
        limit: float = 0.1,
        patience: PositiveInt = 5,
        grace: NonNegativeInt = 1000,
    ) -> None:
        if not 0 < limit < 1:
            raise InputError(f"limit: expected a share between 0 and 1, found {limit}.")
        self.window = window
        self.limit = limit
        self.patience = patience
        self.grace = grace
        self._batches = 0
        self._counts: Tensor = torch.empty(0)
        self._low: list[int] = []
        self._usage: list[float | None] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DistillationModule)
        codec = next(
            (model for _, model in pl_module.models().values() if isinstance(model, Codec)), None
        )
        if codec is None:
            raise InputError(
                f"CollapseAlarm: expected a method that trains a codec, "
                f"found {type(pl_module).__name__}."
            )
        shape = (codec.n_q, codec.codebook_size)
        if tuple(self._counts.shape) != shape:
            self._counts = torch.zeros(shape, dtype=torch.int64)
            self._low, self._usage, self._batches = [0] * codec.n_q, [None] * codec.n_q, 0
        self._counts = self._counts.to(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, DistillationModule)
        codes: Tensor = pl_module.last_codes  # type: ignore[assignment]
        # Summed at once, so that the checkpoint of one rank holds the counts of all.
        self._counts += joint_sum(counted(codes, *self._counts.shape))
        self._batches += 1
        if self._batches == self.window:
            self._judge(pl_module.iteration)
            self._counts.zero_()
            self._batches = 0
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and pl_module.iteration % every == 0:
            known = enumerate(self._usage, start=1)
            figures = {f"train/usage_{level}": usage for level, usage in known if usage is not None}
            pl_module.log_dict(figures, rank_zero_only=True)

    def _judge(self, iteration: int) -> None:
        """Close a window.

        Raises:
            RuntimeError: A level was below the limit in each of the last windows.
        """
        draws = self._counts.sum(dim=1)
        shares = (self._counts > 0).double().mean(dim=1)
        relative = shares / expected_usage(draws, self._counts.shape[1])
        for index, usage in enumerate(relative.tolist()):
            if draws[index] == 0:  # a level that quantiser dropout left out says nothing
                continue
            self._usage[index] = usage
            judged = iteration - self.window >= self.grace
            self._low[index] = self._low[index] + 1 if judged and usage < self.limit else 0
            if self._low[index] >= self.patience:
                found = int((self._counts[index] > 0).sum())
                raise RuntimeError(
                    f"codebook collapse at iteration {iteration}: level {index + 1} used {found} "
                    f"of {self._counts.shape[1]} codes ({100 * usage:.1f} % of even use) and has "
                    f"been below {100 * self.limit:g} % for {self.patience} windows of "
                    f"{self.window} iterations; lower the learning rate, raise expire_below, or "
                    f"try a smaller codebook."
                )

    def state_dict(self) -> dict[str, Any]:
        return {
            "counts": self._counts.cpu(),
            "batches": self._batches,
            "low": list(self._low),
            "usage": list(self._usage),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._counts = state_dict["counts"]
        self._batches = state_dict["batches"]
        self._low = list(state_dict["low"])
        self._usage = list(state_dict["usage"])


def counted(codes: Tensor, n_q: int, codebook_size: int) -> Tensor:
    """How often each code was chosen, (n_q, codebook_size) int64, of codes (B, n, F), n <= n_q."""
    counts = torch.zeros(n_q * codebook_size, dtype=torch.int64, device=codes.device)
    offsets = torch.arange(codes.shape[1], device=codes.device) * codebook_size
    places = (codes.detach() + offsets[:, None]).flatten()
    counts.index_add_(0, places, torch.ones_like(places))
    return counts.reshape(n_q, codebook_size)
