"""FSDP2 for methods with several networks: student, critic, teacher and average sharded alike."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch.distributed as dist
from diffusers import DiTTransformer2DModel
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from kdlight.core.whole import cut_like, gathered, shards
from kdlight.diffusion.denoisers import Denoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.router import RoutedDenoiser
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.discrete.components import ComponentDenoiser
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.energy import NeuralEnergy
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.jumps import JumpModel
from kdlight.errors import InputError
from kdlight.training.ema import EMA

HOLDERS = (
    Denoiser,
    EMA,
    MaskedDenoiser,
    ComponentDenoiser,
    AutoregressiveModel,
    JumpModel,
    NeuralEnergy,
)
"""What calls the networks that it holds."""
CONTAINERS = (*HOLDERS, Generator, TokenGenerator, nn.ModuleDict, nn.ModuleList)
"""What is not called as a network is, but holds some."""


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2: every rank holds a share of all weights, gradients and moments.

    Each network of a method is sharded, the frozen ones too, block by block; the weights of a block
    are gathered when it is called. Every rank has batches of its own, as with DDP, and the results
    are those of DDP. A checkpoint is the file that DDP or one process writes: a run continues
    under any of the three.

    Validation, sampling and exact derivatives (``derivative: jvp``) gather whole networks for as
    long as they take. Weights that two networks share, under adapters, stay whole on every rank.

    Args:
        process_group_backend: What exchanges tensors; null is NCCL on GPUs, gloo on CPUs.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(
            save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The states of optimizers are loaded by this class."""
        return True

    def setup_environment(self) -> None:
        """Shard over all processes; Lightning's own sizes let those of a node train alone."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def shard(self, module: nn.Module) -> None:
        """Shard the networks of a method, in training; elsewhere they stay whole.

        All ranks start from the weights of rank 0.
        """
        assert self.lightning_module is not None
        training = self.lightning_module.trainer.state.fn == TrainerFn.FITTING
        if not training or shards(module):
            return
        networks = list(networks_of(module))
        owners = Counter(id(weight) for network in networks for weight in network.parameters())
        for network in networks:  # one after the other: a rank never holds two that are whole
            network.to(self.root_device)
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.detach(), src=0)
            common = {weight for weight in network.parameters() if owners[id(weight)] > 1}
            shard_network(network, self.device_mesh["data_parallel"], common)

    # Checkpoints: what one process would write -----------------------------------------------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Weights, whole, on the CPU; on rank 0 alone."""
        assert self.lightning_module is not None
        found: dict[str, Any] = self._whole(self.lightning_module.state_dict())
        return found

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's own state, its tensors whole; on rank 0 alone."""
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        found: dict[str, Any] = self._whole(optimizer.state_dict())
        return found

    def _whole(self, values: Any) -> Any:
        """Gather tensor by tensor; other ranks do not keep what they help to gather."""
        if isinstance(values, Tensor):
            found = gathered(values).detach()
            return found.cpu() if self.is_global_zero else found.new_empty(0)
        if isinstance(values, Mapping):
            return {name: self._whole(value) for name, value in values.items()}
        return values

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read the whole file, into memory that ranks of a node share where the system can."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Every rank cuts its shards out of the whole weights."""
        assert self.lightning_module is not None
        known = dict(self.lightning_module.named_parameters(remove_duplicate=False))
        state = {
            name: cut_like(value, known[name]) if name in known else value
            for name, value in checkpoint["state_dict"].items()
        }
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """As the weights: a moment has the shape of its weight, and lies as it does."""
        states = checkpoint["optimizer_states"]
        for optimizer, state in zip(self.optimizers, states, strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            moments = {
                position: {
                    name: cut_like(value, weights[position])
                    if isinstance(value, Tensor) and value.shape == weights[position].shape
                    else value
                    for name, value in found.items()
                }
                for position, found in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})


def networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The networks of a method, each once: what its denoisers call, and what else it trains.

    Raises:
        InputError: Which network is called depends on the batch, which differs between ranks.
    """
    seen: set[int] = set()
    stack = [module]
    while stack:
        holder = stack.pop()
        for part in holder.children():
            if id(part) in seen:
                continue
            seen.add(id(part))
            if isinstance(part, RoutedDenoiser):
                raise InputError(
                    "trainer.strategy: expected all ranks to call a sharded network alike, found "
                    "experts, each called for the classes of a rank's own batch; use "
                    "configs/base/ddp.yaml."
                )
            if isinstance(part, CONTAINERS):
                stack.append(part)
            elif any(isinstance(holder, HOLDERS) or p.requires_grad for p in part.parameters()):
                yield part


def shard_network(network: nn.Module, mesh: DeviceMesh, common: set[nn.Parameter]) -> None:
    """Shard ``network`` in place, block by block.

    Args:
        network: What is called as a module, by nothing but ``forward``.
        mesh: The ranks.
        common: Weights that stay whole.
    """
    blocks = list(blocks_of(network))
    owners = Counter(weight for block in blocks for weight in set(block.parameters()))
    for block in blocks:
        # What two blocks share, as an embedding and the head of a language model, is the network's.
        if all(owners[weight] == 1 for weight in block.parameters()):
            fully_shard(block, mesh=mesh, ignored_params=common)
    fully_shard(network, mesh=mesh, ignored_params=common)


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """What ``network`` is made of: what stands in its outermost lists, and what stands beside them.

    Every module has a group of its own, whose weights are there when a gradient reaches its output:
    a discriminator's gradient enters a network in the middle, past whatever comes behind.
    """
    for part in network.children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            blocks = list(part.values() if isinstance(part, nn.ModuleDict) else part)
            # DiT's forward reads the first block's embedding of the time, from outside of it.
            yield from blocks[1:] if isinstance(network, DiTTransformer2DModel) else blocks
        elif any(isinstance(below, nn.ModuleList | nn.ModuleDict) for below in part.modules()):
            yield from blocks_of(part)
        elif next(part.parameters(), None) is not None:
            yield part
