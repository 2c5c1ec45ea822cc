"""Data parallelism that sums the gradients of what is being trained, and of nothing else."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

BUCKET = 25 * 2**20
"""Bytes of gradient that travel together, as in DistributedDataParallel."""


class PartwiseDDP(DDPStrategy):
    """Data parallelism for methods that train several networks in turns.

    ``DistributedDataParallel`` exchanges the gradients of the whole module after every backward
    pass: those of the networks that look on too, and those of batches whose gradients are still
    being accumulated. Here nothing is wrapped. :class:`~kdlight.training.base.DistillationModule`
    says when the gradient of a part is complete, and only then it is averaged, in buckets that
    travel while the rest of the backward pass runs.

    Buffers are those of rank 0 at the start and not exchanged later; a network with batch
    statistics wants ``trainer.sync_batchnorm: true``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._parts: dict[int, Reduction] = {}

    def configure_ddp(self) -> None:
        """Start all ranks from the weights of rank 0, as the wrapper would."""
        assert self.model is not None
        self._parts.clear()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    @contextlib.contextmanager
    def averaging(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Around the backward pass that completes the gradient of what ``optimizer`` trains."""
        if self.world_size == 1:
            yield
            return
        part = self._parts.get(id(optimizer))
        if part is None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            part = self._parts[id(optimizer)] = Reduction(trained)
        with part:
            yield


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    missing: int = 0
    flat: Tensor | None = None
    work: Any = None


@dataclass
class Reduction:
    """The exchange of one part's gradients, a context around its last backward pass.

    Args:
        parameters: What is trained, alike on all ranks.
    """

    parameters: list[nn.Parameter]
    _buckets: list[_Bucket] = field(default_factory=list)
    _launched: int = 0
    _active: bool = False

    def __post_init__(self) -> None:
        # Backwards, about the order in which gradients become ready.
        filled, kind = BUCKET, None
        for parameter in reversed(self.parameters):
            found = (parameter.dtype, parameter.device)
            if filled >= BUCKET or found != kind:
                self._buckets.append(_Bucket([]))
                filled, kind = 0, found
            bucket = self._buckets[-1]
            bucket.parameters.append(parameter)
            filled += parameter.numel() * parameter.element_size()
            hook: Any = parameter.register_post_accumulate_grad_hook
            hook(partial(self._ready, bucket))

    def __enter__(self) -> None:
        self._launched, self._active = 0, True
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    def _ready(self, bucket: _Bucket, parameter: nn.Parameter) -> None:
        if not self._active:
            return
        bucket.missing -= 1
        # In one order on all ranks, whatever the order of their gradients.
        while self._launched < len(self._buckets) and not self._buckets[self._launched].missing:
            self._launch()

    def _launch(self) -> None:
        bucket = self._buckets[self._launched]
        self._launched += 1
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket.parameters]
        bucket.flat = torch.cat([gradient.flatten() for gradient in gradients])
        bucket.work = dist.all_reduce(bucket.flat, async_op=True)

    @torch.no_grad()
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._active = False
        if kind is not None:
            return
        while self._launched < len(self._buckets):
            self._launch()
        reached = self._reached()
        for bucket in self._buckets:
            assert bucket.flat is not None
            bucket.work.wait()
            bucket.flat /= dist.get_world_size()
            means = torch.split(bucket.flat, [p.numel() for p in bucket.parameters])
            into, values = [], []
            for parameter, mean in zip(bucket.parameters, means, strict=True):
                if id(parameter) in reached:
                    if parameter.grad is None:
                        parameter.grad = torch.empty_like(parameter)
                    into.append(parameter.grad)
                    values.append(mean.view_as(parameter))
            torch._foreach_copy_(into, values)
            bucket.flat = bucket.work = None

    def _reached(self) -> set[int]:
        """The parameters that some rank has a gradient of; the others keep none.

        An optimizer moves a parameter whose gradient is zero by its moments, and leaves one alone
        that has none.
        """
        lacking = [parameter.grad is None for parameter in self.parameters]
        counts = torch.tensor([not each for each in lacking], dtype=torch.int32)
        counts = counts.to(self.parameters[0].device)
        dist.all_reduce(counts)
        if any(lacking):
            lacking = (counts == 0).tolist()
        return {id(p) for p, without in zip(self.parameters, lacking, strict=True) if not without}
