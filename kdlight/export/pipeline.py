"""A few-step student of a latent pipeline as that pipeline's own folder, or as adapters for it."""

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler, SchedulerMixin
from safetensors.torch import save_file
from torch import Tensor

from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.flow_map import MeanFlowDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentConsistencyDenoiser, LatentGenerator, SkippingGrid
from kdlight.errors import InputError
from kdlight.export.ddim import check_walk
from kdlight.export.folder import INSTEAD, check_steps
from kdlight.networks.images.transformers import PipelineTransformer
from kdlight.networks.lora import AdaptedNetwork, DiffusersNetwork
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.files import read_json
from kdlight.teachers.pipelines.autoencoder import DiffusersAutoencoder, downscaling
from kdlight.teachers.pipelines.folder import network_part, open_pipeline, parts_of

ADAPTERS = "pytorch_lora_weights.safetensors"
"""The name under which diffusers' ``load_lora_weights`` looks for adapters in a folder."""
IDENTITY = 1e10
"""A timestep_scaling at which LCMScheduler takes the network's estimate as it is."""

PIPELINE_CARD = """---
library_name: diffusers
---
A generator distilled with kdlight, made to sample in {steps} step{plural}.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
pipeline({call})
```
"""

ADAPTERS_CARD = """---
library_name: diffusers
tags: [lora]
---
Adapters distilled with kdlight that make a latent diffusion model sample in {steps} step{plural}.

```python
from diffusers import DiffusionPipeline, {scheduler}

pipeline = DiffusionPipeline.from_pretrained("{source}")
pipeline.scheduler = {scheduler}.from_pretrained("path/to/this/folder")
pipeline.load_lora_weights("path/to/this/folder")
pipeline({call})
```
"""


def export_pipeline(generator: LatentGenerator, path: Path, steps: int) -> None:
    """Write a student as the folder of its teacher's pipeline, with a scheduler that walks as it.

    A student with adapters becomes a small folder of the adapters and that scheduler, where the
    pipeline can load adapters, and else a pipeline with the adapters merged in. Called as the
    folder's README.md says, without guidance, stock diffusers gives the pictures of ``generator``
    for the same noise.

    Args:
        generator: What to export.
        path: Folder to write; an earlier export there is replaced as a whole.
        steps: Number of steps that the folder is for.

    Raises:
        InputError: diffusers has nothing that would give the same pictures, or something else
            lives at ``path``.
    """
    check_steps(generator, steps)
    source = _source(generator)
    root = open_pipeline(source)
    scheduler, stops = walk_of(generator, steps)
    kind = parts_of(root)["pipeline"]
    network = generator.denoiser.network
    assert isinstance(network, AdaptedNetwork | DiffusersNetwork)
    named = _named_walk(kind, scheduler, stops, steps)
    said = {"steps": steps, "plural": "" if steps == 1 else "s", "source": source}
    asked = [_asked(kind), *named, *_guidance(kind, generator), *_size(kind, generator, source)]
    said["call"] = ", ".join(asked)
    said["scheduler"] = type(scheduler).__name__
    loads = hasattr(getattr(diffusers, kind), "load_lora_weights")
    with atomic_folder(path, "model_index.json", ADAPTERS) as folder:
        if isinstance(network, AdaptedNetwork) and loads:
            write_adapters(network, scheduler, folder)
            card = ADAPTERS_CARD.format(**said)
        else:
            plain = network.merged() if isinstance(network, AdaptedNetwork) else network
            assert isinstance(plain, DiffusersNetwork)
            if isinstance(generator.denoiser, MeanFlowDenoiser):
                assert isinstance(plain, PipelineTransformer)
                plain = plain.of_interval(stops[0] * generator.denoiser.time_scale)
            _write_pipeline(root, plain, scheduler, folder)
            card = PIPELINE_CARD.format(**said)
        (folder / "README.md").write_text(card, encoding="utf-8")


def write_adapters(network: AdaptedNetwork, scheduler: SchedulerMixin, folder: Path) -> None:
    """Write the adapters of a network, and the scheduler to sample with, for ``load_lora_weights``.

    diffusers reads a scale of 1 where the file says none: the factor goes into B.
    """
    factor = network.alpha / network.rank
    tensors = {
        name: (tensor * factor if ".lora_B." in name else tensor).cpu().contiguous().clone()
        for name, tensor in network.adapters().items()
    }
    save_file(tensors, folder / ADAPTERS, metadata={"format": "pt"})
    scheduler.save_pretrained(folder)


def _write_pipeline(
    root: Path, network: DiffusersNetwork, scheduler: SchedulerMixin, folder: Path
) -> None:
    part = network_part(root)
    index: dict[str, Any] = dict(read_json(root / "model_index.json"))
    for name in set(parts_of(root)) - {"pipeline", part, "scheduler"}:
        if (root / name).is_dir():
            pickled = shutil.ignore_patterns("*.bin", "*.ckpt", "*.msgpack", "*.onnx*", "*.h5")
            shutil.copytree(root / name, folder / name, ignore=pickled)
        else:
            index[name] = [None, None]
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    scheduler.save_pretrained(folder / "scheduler")
    network.model.save_pretrained(folder / part, safe_serialization=True)


def walk_of(generator: Generator, steps: int) -> tuple[SchedulerMixin, list[float]]:
    """The scheduler that walks as a generator does, and where it stops on its way.

    Returns:
        Scheduler, and the timesteps (of a variance-preserving model) or the times (of flow
        matching) of the walk.

    Raises:
        InputError: There is none.
    """
    denoiser, levels = generator.denoiser, generator.grid.sigmas(steps)[:-1]
    fresh = generator.algorithm == "consistency"
    if steps > 1 and generator.algorithm not in ("consistency", "euler"):
        # A flow map in one step is an Euler step of the jump that it always makes.
        raise InputError(
            f"algorithm: diffusers walks with euler or consistency, found "
            f"{generator.algorithm}: {INSTEAD}."
        )
    if isinstance(denoiser, FlowDenoiser | MeanFlowDenoiser):
        flow = FlowMatchEulerDiscreteScheduler(shift=1.0, stochastic_sampling=fresh)
        return flow, (levels / (1 + levels)).tolist()
    if not isinstance(denoiser, VPDenoiser):
        raise InputError(
            f"a {type(denoiser).__name__} cannot become a latent pipeline of diffusers, which "
            f"needs a VPDenoiser or a FlowDenoiser: {INSTEAD}."
        )
    table = {
        "num_train_timesteps": len(denoiser.alphas_cumprod),
        "trained_betas": betas_of(denoiser.alphas_cumprod),
        "prediction_type": denoiser.prediction,
        "clip_sample": False,
        "set_alpha_to_one": True,
    }
    if not fresh and steps > 1:
        check_walk(generator, denoiser, steps)
        ddim = DDIMScheduler(timestep_spacing="trailing", **table)
        return ddim, denoiser.timestep(levels).tolist()
    told = isinstance(denoiser, LatentConsistencyDenoiser)
    if told and denoiser.sigma_data != 0.5:
        raise InputError(
            f"sigma_data: LCMScheduler has 0.5, found {denoiser.sigma_data}: {INSTEAD}."
        )
    grid = generator.grid
    stops = len(grid.timesteps) if isinstance(grid, SkippingGrid) else len(denoiser.alphas_cumprod)
    lcm = LCMScheduler(
        original_inference_steps=stops,
        timestep_scaling=denoiser.timestep_scale if told else IDENTITY,
        **table,
    )
    return lcm, _whole(denoiser, levels)


def betas_of(alphas_cumprod: Tensor) -> list[float]:
    """``1 - alpha_bar_t / alpha_bar_(t-1)``, as schedulers are given a table."""
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    return (1 - alphas_cumprod / previous).tolist()


def _whole(denoiser: VPDenoiser, levels: Tensor) -> list[float]:
    """Timesteps of noise levels, which schedulers know whole ones of alone."""
    timesteps = denoiser.timestep(levels)
    nearest = timesteps.round()
    if (timesteps != nearest).any():
        table = ((1 - denoiser.alphas_cumprod) / denoiser.alphas_cumprod).sqrt()
        known = ", ".join(f"{table[int(index)]:.8g}" for index in nearest.tolist())
        raise InputError(
            f"intermediate: diffusers stops at whole timesteps, near by at the noise levels "
            f"{known}; found {', '.join(f'{level:.8g}' for level in levels.tolist())}: {INSTEAD}."
        )
    return nearest.tolist()


def _named_walk(kind: str, scheduler: Any, stops: Sequence[float], steps: int) -> list[str]:
    """How a pipeline is told where to stop."""
    if all(stop <= 1 for stop in stops):
        return [f"num_inference_steps={steps}", f"sigmas={[round(stop, 8) for stop in stops]}"]
    scheduler.set_timesteps(steps)
    usual = [int(step) for step in scheduler.timesteps]
    whole = [int(stop) for stop in stops]
    if whole == usual:
        return [f"num_inference_steps={steps}"]
    if kind == "DiTPipeline":
        raise InputError(
            f"intermediate: DiTPipeline stops in {steps} steps at the timesteps "
            f"{', '.join(map(str, usual))}, found {', '.join(map(str, whole))}: {INSTEAD}."
        )
    return [f"timesteps={whole}"]


def _asked(kind: str) -> str:
    return "class_labels=[0]" if kind == "DiTPipeline" else '"a prompt"'


def _guidance(kind: str, generator: LatentGenerator) -> list[str]:
    """Guidance that the network is told, or none."""
    denoiser = generator.denoiser
    if kind == "QwenImagePipeline":
        return ["true_cfg_scale=1"]
    if "guidance" not in denoiser.conditions:
        return ["guidance_scale=1"]
    if isinstance(denoiser, LatentConsistencyDenoiser):
        return [f"guidance_scale={denoiser.guidance_scale:g}"]
    network: Any = denoiser.network
    inner: Any = network.network if isinstance(network, AdaptedNetwork) else network
    return [f"guidance_scale={float(inner.null_guidance):g}"]


def _size(kind: str, generator: LatentGenerator, source: str) -> list[str]:
    """How a pipeline is told the size of the pictures, where it would take another."""
    taken = inspect.signature(getattr(diffusers, kind).__call__).parameters
    if "height" not in taken:
        return []
    network: Any = generator.denoiser.network
    inner: Any = network.network if isinstance(network, AdaptedNetwork) else network
    _, rows, columns = generator.shape
    _, factor = downscaling(source)
    usual = inner.model.config.get("sample_size")
    if taken["height"].default is not None:  # Sana's, whatever its network was trained for
        usual = taken["height"].default // factor
    named = []
    if rows != columns or usual not in (rows, (rows, columns)):
        named = [f"height={rows * factor}", f"width={columns * factor}"]
    if "use_resolution_binning" in taken:
        named.append("use_resolution_binning=False")
    return named


def _source(generator: LatentGenerator) -> str:
    """The pipeline that a student's autoencoder is of."""
    network = getattr(generator.denoiser, "network", None)
    if not isinstance(generator.autoencoder, DiffusersAutoencoder) or not isinstance(
        network, AdaptedNetwork | DiffusersNetwork
    ):
        raise InputError(
            f"a {type(network or generator.denoiser).__name__} cannot become a latent pipeline, "
            f"which needs a network and an autoencoder of one: {INSTEAD}."
        )
    return generator.autoencoder.path_or_id
