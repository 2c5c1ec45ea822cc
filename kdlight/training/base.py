"""The LightningModule every method derives from: counting, teachers, optimizers, exactness."""

import contextlib
import math
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from kdlight import __version__
from kdlight.core.constraints import Constrained, constrained
from kdlight.core.frozen import digest, drop_frozen, forgive_frozen
from kdlight.core.noise import NoiseStream, mix, seed_global
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import spec_of
from kdlight.core.whole import cut_like, gathered
from kdlight.errors import InputError
from kdlight.training.batches import NamedBatch
from kdlight.training.ema import EMA
from kdlight.training.offload import Visits
from kdlight.training.optim import Optimization
from kdlight.training.precision import full_float32, one_scale
from kdlight.training.reduction import PartwiseDDP
from kdlight.training.sharding import ShardedStrategy
from kdlight.training.statistics import RunningStatistics

Batch = dict[str, Any]


class DistillationModule(Ranged, L.LightningModule):
    """What all methods share, and nothing of any one of them.

    A method defines :meth:`step`, the algorithm of its paper, and calls :meth:`optimize` in it;
    :meth:`stage` if its schedules restart; :meth:`models` to say what training ends in.
    All schedules run on :attr:`iteration`, the number of training batches.

    Args:
        iterations: Length of the run in training batches.
        optimizers: Settings of each trained part, by the part's attribute name.
        accumulate: Batches whose gradients are summed into one update.
        seed: Seed of the step noise.
        max_non_finite: Updates in a row that may be skipped because the gradient is not finite.

    Attributes:
        offload_teacher: Whether frozen networks wait on the host, see
            :class:`~kdlight.training.speed.Speed`.
        needs_float32: Whether the loss is a difference that a lower precision rounds away: the step
            is then computed in float32, whatever precision the trainer has.
        shardable: Whether its networks are called by ``forward`` alone, as sharded ones must be.
    """

    needs_float32: ClassVar[bool] = False
    shardable: ClassVar[bool] = True

    def __init__(
        self,
        iterations: PositiveInt,
        optimizers: Mapping[str, Optimization],
        accumulate: PositiveInt = 1,
        seed: int = 0,
        max_non_finite: PositiveInt = 10,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.iterations = iterations
        self.iteration = 0
        self.non_finite_in_a_row = 0
        self.non_finite_total = 0
        self.noise = NoiseStream(seed)
        self._optimization = dict(optimizers)
        self._accumulate = accumulate
        self._seed = seed
        self._max_non_finite = max_non_finite
        self.frozen: dict[str, str] = {}
        self._averages: dict[str, list[EMA[Any]]] = {}
        self._constrained: dict[str, list[Constrained]] = {}
        self.offload_teacher = False
        self._visits: Visits | None = None
        self._stepped = True
        self._spent: set[str] = set()
        self._pending_gradients: dict[str, Tensor] = {}
        self._statistics: dict[str, RunningStatistics] = {}
        self.register_state_dict_post_hook(drop_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(forgive_frozen)  # type: ignore[no-untyped-call]

    # What a method defines ------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        """One iteration of the method: compute losses and :meth:`optimize` parts."""
        raise NotImplementedError

    def stage(self) -> tuple[int, int]:
        """Position in the current stage and its length, in iterations, for the schedules."""
        return self.iteration, self.iterations

    def describe_stage(self) -> str:
        """A few words for the progress bar."""
        return "training"

    def after_iteration(self) -> None:
        """Called with :attr:`iteration` already counted; stages change here."""

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        """What training ends in, and what a checkpoint can be loaded as.

        Returns:
            For a state-dict prefix: a name ("student") and the model whose weights lie under it.
        """
        return {}

    def borrowed(self) -> dict[str, str]:
        """Parts of :meth:`models` that are a teacher's own, and stay in the teacher's file.

        Returns:
            For a state-dict prefix below that of a model: the frozen part ("teacher.denoiser").
        """
        return {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing by default: callbacks measure :meth:`models`."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing by default: callbacks measure :meth:`models`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        """What ``predict`` writes of a batch.

        Raises:
            InputError: The method does not say.
        """
        raise InputError(f"predict: {type(self).__name__} has nothing to predict.")

    # Parts ----------------------------------------------------------------------------------

    def add_frozen(self, name: str, module: nn.Module) -> None:
        """Register ``module`` as a teacher: no gradient, evaluation mode, not in checkpoints."""
        module.requires_grad_(False).eval()
        self.add_module(name, module)
        self.frozen[name] = digest(module)

    def provenance(self) -> dict[str, str] | None:
        """Where the first teacher came from (path and hash); None without one."""
        found = (getattr(self.get_submodule(name), "provenance", None) for name in self.frozen)
        return next((each for each in found if each is not None), None)

    @property
    def optimization(self) -> dict[str, Optimization]:
        """Settings of each trained part."""
        return self._optimization

    def average(self, name: str, average: EMA[Any]) -> None:
        """Update ``average`` after every update of the part ``name``."""
        self._averages.setdefault(name, []).append(average)

    def train(self, mode: bool = True) -> "DistillationModule":
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def on_validation_model_zero_grad(self) -> None:
        """Keep what an unfinished accumulation has gathered; Lightning would clear it here."""

    def configure_model(self) -> None:
        """Shard the networks, if the strategy does that; called by Lightning.

        Raises:
            InputError: They cannot be sharded.
        """
        if isinstance(self.trainer.strategy, ShardedStrategy):
            if not self.shardable:
                raise InputError(
                    f"trainer.strategy: {type(self).__name__} cannot be sharded, expected "
                    "configs/base/ddp.yaml, found ShardedStrategy."
                )
            self.trainer.strategy.shard(self)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [settings.build(self.trained(name)) for name, settings in self._optimization.items()]

    def trained(self, name: str) -> list[nn.Parameter]:
        """What the optimizer ``name`` trains: the part of that name."""
        return list(self.get_submodule(name).parameters())

    def _optimizer(self, name: str) -> Any:
        found = self.optimizers()
        index = list(self._optimization).index(name)
        return found[index] if isinstance(found, list) else found

    # The iteration --------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Seed, run :meth:`step`, count. Not for methods to override."""
        self.noise.start(self.iteration, self.device, self.global_rank, self.trainer.world_size)
        # Dropout and anything else that draws from the global generators.
        seed_global(mix(self._seed, self.iteration, self.global_rank), self.device)
        with contextlib.ExitStack() as around:
            if self.needs_float32:
                around.enter_context(full_float32(self.device))
            if self._accumulate > 1:
                scaler = getattr(self.trainer.precision_plugin, "scaler", None)
                around.enter_context(one_scale(scaler))
            self.step(NamedBatch(batch, type(self).__name__))
        self.iteration += 1
        self.after_iteration()
        if self.iteration >= self.iterations:
            self.trainer.should_stop = True

    @property
    def updates(self) -> bool:
        """Whether this batch is the last of an accumulation, whose :meth:`optimize` updates."""
        position, length = self.stage()
        # Counted within the stage, so that no gradient crosses from one stage to the next.
        return (position + 1) % self._accumulate == 0 or position + 1 >= length

    def optimize(self, name: str, loss: Tensor) -> None:
        """Backward, and every ``accumulate`` batches one update of the part ``name``.

        The learning rate follows the part's settings over the stage; the gradient is clipped;
        an update with a non-finite gradient is skipped and counted; the part's average moves.
        Only the first part's updates advance Lightning's ``global_step``.

        Args:
            name: A key of ``optimizers``.
            loss: Scalar; its mean over the local batch.

        Raises:
            RuntimeError: Too many updates in a row had a non-finite gradient.
        """
        optimizer = self._optimizer(name)
        position, length = self.stage()
        if name in self._spent:
            # Only now: freed while little else is allocated, the memory would go back to the
            # system, and every page of it be faulted in again.
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
            self._spent.remove(name)
        strategy, complete = self.trainer.strategy, self.updates
        with (
            strategy.averaging(optimizer.optimizer)
            if complete and isinstance(strategy, PartwiseDDP)
            else contextlib.nullcontext()
        ):
            self.manual_backward(loss / self._accumulate if self._accumulate > 1 else loss)
        if not complete:
            return
        lr = self._optimization[name].lr_at(position, length)
        for group in optimizer.param_groups:
            group["lr"] = lr
        if name == next(iter(self._optimization)):
            optimizer.step()
        else:
            strategy.optimizer_step(optimizer.optimizer, lambda: None)
        self._spent.add(name)
        if self._stepped:
            for part in self._constrained[name]:
                part.constrain()
            for average in self._averages.get(name, ()):
                average.update(self.get_submodule(name))
            self._statistics[name].keep()
        else:
            self._statistics[name].take_back()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip and guard here: gradients are synchronised and, in fp16, unscaled only now."""
        name = self._name_of(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        # As nn.utils.get_total_norm, which takes twice as long to find what is on which device.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self._stepped = math.isfinite(norm.item())
        if not self._stepped:
            # Without a gradient the optimizer leaves a parameter and its state untouched.
            for parameter in parameters:
                parameter.grad = None
            self.non_finite_total += 1
            self.non_finite_in_a_row += 1
            if self.non_finite_in_a_row >= self._max_non_finite:
                raise RuntimeError(
                    f"{name}: {self.non_finite_in_a_row} updates in a row had a gradient that is "
                    f"not finite (iteration {self.iteration}); lower the learning rate or set clip."
                )
            return
        self.non_finite_in_a_row = 0
        clip = self._optimization[name].clip
        if clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip, norm)

    def _name_of(self, optimizer: torch.optim.Optimizer) -> str:
        known = self.optimizers(use_pl_optimizer=False)
        listed = known if isinstance(known, list) else [known]
        index = next(i for i, candidate in enumerate(listed) if candidate is optimizer)
        return list(self._optimization)[index]

    def forget_optimizer(self, name: str) -> None:
        """Start the part's optimizer afresh, as a new stage does."""
        self._optimizer(name).optimizer.state.clear()

    def report(self, values: Mapping[str, Tensor | float]) -> None:
        """Log training values, on the batches the loggers will record.

        Args:
            values: By key, logged as ``train/<key>``; a key that holds a slash as it is.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and (self.iteration + 1) % every == 0:
            logged = {
                name if "/" in name else f"train/{name}": value for name, value in values.items()
            }
            logged["iteration"] = float(self.iteration + 1)
            logged["train/non_finite"] = float(self.non_finite_total)
            self.log_dict(logged, sync_dist=self.trainer.world_size > 1)

    # Checkpoints ----------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "non_finite_in_a_row": self.non_finite_in_a_row,
            "non_finite_total": self.non_finite_total,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.iteration = int(state["iteration"])
        self.non_finite_in_a_row = int(state["non_finite_in_a_row"])
        self.non_finite_total = int(state["non_finite_total"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kdlight"] = __version__
        checkpoint["teachers"] = dict(self.frozen)
        checkpoint["models"] = [
            {
                "name": name,
                "prefix": prefix,
                "spec": spec_of(model),
                "borrowed": {
                    part.removeprefix(f"{prefix}."): self._source(frozen)
                    for part, frozen in self.borrowed().items()
                    if part.startswith(f"{prefix}.")
                },
            }
            for prefix, (name, model) in self.models().items()
        ]

        if self._accumulate > 1:
            used_up = {id(each) for name in self._spent for each in self.trained(name)}
            checkpoint["gradients"] = {
                name: gathered(parameter.grad)
                for name, parameter in self.named_parameters()
                if parameter.grad is not None and id(parameter) not in used_up
            }

    def _source(self, frozen: str) -> dict[str, str]:
        """Where a part of a frozen one is read again: its file, the teacher, its place in it."""
        teacher, _, place = frozen.partition(".")
        known = getattr(self.get_submodule(teacher), "provenance", None) or {}
        return {**known, "digest": self.frozen[teacher], "place": place}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._pending_gradients = checkpoint.get("gradients", {})
        for name, expected in checkpoint.get("teachers", {}).items():
            if name in self.frozen and self.frozen[name] != expected:
                raise InputError(
                    f"{name}: the checkpoint was trained with weights of digest {expected[:12]}, "
                    f"this configuration gives {self.frozen[name][:12]}."
                )

    def on_train_start(self) -> None:
        if self.iteration >= self.iterations:
            self.trainer.should_stop = True  # continued behind its end: nothing left to train
        # The configuration wins over the checkpoint on resume; the moments are kept.
        for name, settings in self._optimization.items():
            for group in self._optimizer(name).param_groups:
                group.update(settings.hyperparameters())
            self._statistics[name] = RunningStatistics(self.get_submodule(name))
            self._constrained[name] = constrained(self.get_submodule(name))
        if self.offload_teacher:
            self._visits = Visits(self, list(self.frozen), self.device)
        if self.device.type == "cpu":
            # Optimizers ask at every step whether there is a GPU. As Lightning sets it, the answer
            # is the driver's, whose library is loaded each time.
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        for name, gradient in self._pending_gradients.items():
            parameter = self.get_parameter(name)
            parameter.grad = cut_like(gradient.to(parameter.device), parameter)
        self._pending_gradients = {}

    def teardown(self, stage: str) -> None:
        if self._visits is not None:
            self._visits.end()
            self._visits = None
