"""kdlight against a bare loop on a GPU: ``python -m tests.gpu.bench``, or ``make bench-gpu``.

EDM's training, consistency tuning and DMD2 with the network of CIFAR-10, in float32 and random
images, and a step of DMD2 with the network of SDXL and adapters. Wall time, the device waited for.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from kdlight.commands.train import quiet
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.networks.images.discriminator import FeatureHead
from kdlight.networks.images.edm.song import SongUNet
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_tuning import ConsistencyTuning
from modules.diffusion.diffusion_training import DiffusionTraining
from modules.diffusion.dmd2 import DMD2
from tests.benchmarks.bare import BareConsistency, BareDiffusion
from tests.benchmarks.bare_scores import BareDMD2
from tests.benchmarks.interleave import HEADER, Pairs
from tests.benchmarks.training import CHUNK, Bare, race_on
from tests.gpu.recipes import SyntheticImages
from tests.gpu.sdxl import SDXL, TINY, SharedAdapters, batch_of, step

LAYER = "dec.8x8_in1"


def cifar(turns: int, batch: int, device: str, width: int = 128) -> Iterator[Pairs]:
    """The three methods with the network of CIFAR-10, or a narrower one."""
    torch.manual_seed(0)
    denoiser = EDMDenoiser(SongUNet(32, 3, model_channels=width, dropout=0.0).to(device))
    teacher = Generator(denoiser, KarrasGrid(), (3, 32, 32))
    optimizer = Optimization(lr=1e-4)
    steps = (turns + 1) * CHUNK
    head = FeatureHead([LAYER], [2 * width]).to(device)
    # Before the modules, which freeze their teacher.
    loops: list[Bare] = [
        BareDiffusion(denoiser, optimizer, 500.0, steps, -1.2, 1.2, 0.0),
        BareConsistency(denoiser, optimizer, 500.0, steps),
        BareDMD2(denoiser, head, optimizer, 500.0, steps, 5, LAYER),
    ]
    modules = [
        DiffusionTraining(copy.deepcopy(denoiser), [3, 32, 32], optimizer, steps),
        ConsistencyTuning(optimizer, steps, teacher, stages=1),
        DMD2(teacher, optimizer, optimizer, 5, iterations=steps, discriminator=head),
    ]
    image = torch.rand(batch, 3, 32, 32, device=device) * 2 - 1
    label = torch.zeros(batch, dtype=torch.int64, device=device)
    accelerator = "gpu" if device == "cuda" else "cpu"
    titles = ("EDM, CIFAR-10", "consistency tuning, CIFAR-10", "DMD2, CIFAR-10")
    for name, module, bare in zip(titles, modules, loops, strict=True):
        data = SyntheticImages([3, 32, 32], batch_size=batch)
        take = partial(bare.step, image, label)
        yield race_on(f"{name}, batch {batch}", module, data, take, accelerator)


def sdxl(settings: dict[str, Any], rank: int, device: str, steps: int) -> str:
    """A line: milliseconds of a step of both parts, and the peak of memory."""
    model = SharedAdapters(settings, rank, device)
    noise, condition = batch_of(settings, 1, device)
    step(model, noise, condition)
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step(model, noise, condition)
    if on_gpu:
        torch.cuda.synchronize()
    milliseconds = (time.perf_counter() - start) / steps * 1e3
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB" if on_gpu else "-"
    return f"DMD2 with adapters of rank {rank}, batch 1: {milliseconds:.1f} ms a step, {memory}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.bench", description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--cpu", action="store_true", help="Narrow networks on the CPU: a trial.")
    given = parser.parse_args()
    quiet()
    device = "cpu" if given.cpu else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here; --cpu tries the same code on narrow networks.")
    print(HEADER)
    for pairs in cifar(given.turns, given.batch_size, device, 8 if given.cpu else 128):
        turns = sorted(turn.wall for turn in pairs.ours)
        rate = given.batch_size * CHUNK / turns[len(turns) // 2]
        memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
        print(f"{pairs.row()}  {rate:.1f} images/s, {memory:.2f} GiB so far", flush=True)
    print(sdxl(TINY if given.cpu else SDXL, 64, device, 2 if given.cpu else 10))


if __name__ == "__main__":
    main()
