"""What two processes do together to quantisers, and one process does alone.

``two_ranks()`` launches both once and gives what each of them saw.
"""

import functools
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from encodec.quantization.core_vq import ResidualVectorQuantization
from torch import Tensor

from kdlight.codec.balancer import GradientBalancer
from kdlight.codec.factorized import FactorizedVQ
from kdlight.codec.quantization import Quantizer, ResidualVQ, SplitResidualVQ
from tests.ranks import run_two_ranks

STEPS = 16
POISONED = 9
ITEM_LEVELS = torch.tensor([1, 3, 1, 1, 2, 1])


def joint_batches() -> list[Tensor]:
    """Latents (6, 4, 32) that wander, so that codes die; one batch has a NaN, on rank 1."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(24, 4, generator=generator) * 4
    batches = []
    for step in range(STEPS):
        # A window of the centres moves on.
        chosen = torch.randint(8, (6, 32), generator=generator) + step
        noise = torch.randn(6, 32, 4, generator=generator) * 0.2
        batches.append((centres[chosen] + noise).transpose(1, 2).contiguous())
    batches[POISONED][1, 0, 0] = float("nan")
    return batches


def tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def history(rank: int, ranks: int) -> list[dict[str, Tensor]]:
    """The state of our quantiser after every batch."""
    quantizer = ResidualVQ(4, 2, 16, decay=0.8, expire_below=0.2)
    states = []
    for batch in joint_batches():
        quantizer(batch[rank::ranks])
        states.append(tensors(quantizer))
    return states


def published_history(rank: int, ranks: int) -> list[dict[str, Tensor]]:
    """The state of encodec's quantiser after every batch; no code is replaced."""
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantization(
        num_quantizers=2, dim=4, codebook_size=16, decay=0.8, threshold_ema_dead_code=0
    )
    states = []
    for batch in joint_batches()[:POISONED]:
        quantizer(batch[rank::ranks])
        states.append(tensors(quantizer))
    return states


def dropout_gradients(rank: int, ranks: int) -> dict[str, Tensor]:
    """Gradient of the commitment at the latents of this rank's items, with levels by item."""
    latents = joint_batches()[0][rank::ranks]
    gradients = {}
    made: dict[str, Quantizer] = {}
    torch.manual_seed(0)
    made["residual"] = ResidualVQ(4, 3, 8)
    made["split"] = SplitResidualVQ(4, 3, 8, codebook_dim=4)
    made["factorized"] = FactorizedVQ(4, 3, 8, codebook_dim=2)
    for name, quantizer in made.items():
        leaf = latents.clone().requires_grad_()
        loss = quantizer(leaf, ITEM_LEVELS[rank::ranks]).commitment_loss
        (gradients[name],) = torch.autograd.grad(loss, leaf)
    return gradients


def balanced_gradients(rank: int, ranks: int) -> list[Tensor]:
    """Balanced gradients at this rank's items over some batches."""
    balancer = GradientBalancer(decay=0.5)
    gradients = []
    for batch in joint_batches()[:3]:
        x = batch[rank::ranks, :1].clone().requires_grad_()
        terms = {"square": x.square().mean(), "absolute": 100 * (x - 1).abs().mean()}
        balancer(x, terms, {"square": 1.0, "absolute": 3.0}).backward()
        assert x.grad is not None
        gradients.append(x.grad)
    return gradients


def run(rank: int, ranks: int) -> dict[str, Any]:
    return {
        "ours": history(rank, ranks),
        "published": published_history(rank, ranks),
        "dropout": dropout_gradients(rank, ranks),
        "balanced": balanced_gradients(rank, ranks),
    }


@functools.cache
def one_rank() -> dict[str, Any]:
    return run(0, 1)


@functools.cache
def two_ranks() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        run_two_ranks("tests.codec.rank_runs", folder, timeout=120)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Ranks that wait for each other for good end soon.
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    torch.save(run(dist.get_rank(), 2), Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
