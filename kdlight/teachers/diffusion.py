"""Diffusion teachers, each a function that a YAML file can name as ``class_path``.

The oracle teacher needs no function: a ``Generator`` of a ``MixtureDenoiser``.
"""

from pathlib import Path
from typing import Any

from kdlight.diffusion.coordinates import FlowDenoiser, VPDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser, Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import Algorithm
from kdlight.diffusion.sigmas import FlowGrid, Grid, KarrasGrid, PrefixGrid, TrailingGrid
from kdlight.errors import InputError
from kdlight.networks.images.unet import UNet2D
from kdlight.teachers.checkpoint import pick_generator
from kdlight.teachers.folder import (
    CONSISTENCY_SCHEDULERS,
    EDM_SCHEDULERS,
    FLOW_SCHEDULERS,
    VP_SCHEDULERS,
    open_folder,
    read_scheduler,
    read_unet,
)

ASSETS = Path(__file__).parent.parent / "assets"


def bundled_teacher(name: str) -> Generator:
    """A teacher that comes with kdlight.

    Args:
        name: Its name, such as ``digits_teacher``; ``kdlight/assets`` holds the model cards.

    Raises:
        InputError: There is none of that name.
    """
    known = sorted(path.stem for path in ASSETS.glob("*_teacher.safetensors"))
    if name not in known:
        raise InputError(
            f"name: expected a bundled teacher ({', '.join(known) or 'none here'}), found {name!r}."
        )
    generator = pick_generator(ASSETS / f"{name}.safetensors")
    # Where kdlight is installed says nothing about the teacher.
    generator.denoiser.provenance["source"] = f"bundled: {name}"
    return generator


def run_teacher(checkpoint: str, model: str | None = None, steps: int | None = None) -> Generator:
    """A model that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.
        model: Which of its models; default: the student if there is one.
        steps: Number of steps it has to sample in, where there is one model for each.

    Raises:
        InputError: The file is missing or damaged, or has no such model.
    """
    return pick_generator(Path(checkpoint), steps, model)


def diffusers_teacher(
    path_or_id: str,
    steps: int | None = None,
    algorithm: Algorithm | None = None,
    null_class: bool = False,
) -> Generator:
    """A pixel-space model of diffusers: ``DDPMPipeline``, ``ConsistencyModelPipeline`` and so on.

    A ``UNet2DModel`` with a variance-preserving scheduler (epsilon, v_prediction or sample) walks
    the trailing timesteps, one with an EDM scheduler the Karras grid, one with a flow-matching
    scheduler its times, and a consistency model one step or two. Clipping and thresholding of x0,
    which some schedulers do at every step, are not part of the denoiser; a learned variance is
    not used.

    Args:
        path_or_id: A pipeline folder, a model folder that has a scheduler in or beside it, or an
            id on the Hugging Face hub. Only safetensors weights are read.
        steps: Default number of sampling steps; None takes 50, or 1 for a consistency model.
        algorithm: Sampler; default: Euler (DDIM), Heun for EDM and for a scheduler of that name,
            or that of consistency models.
        null_class: Whether the last class of a class-conditional network is the one for "no
            class", as in networks trained for classifier-free guidance.

    Raises:
        InputError: The folder is missing or damaged, or the model is of another kind.
    """
    folder = open_folder(path_or_id)
    scheduler = read_scheduler(folder)
    settings = scheduler.config
    consistency = settings["_class_name"] in CONSISTENCY_SCHEDULERS
    # diffusers gives consistency models 250 log(sigma).
    network, digest = read_unet(folder, null_class, 1000.0 if consistency else 1.0)
    try:
        denoiser, grid, default = _wrapped(network, scheduler)
    except InputError as error:
        raise InputError(f"{folder.scheduler}: {error}") from None
    denoiser.provenance = {"source": path_or_id, "sha256": digest}
    walks = ((1, 2) if consistency else (50,)) if steps is None else (steps,)
    return Generator(
        denoiser, grid, network.shape, algorithm or default, walks, not consistency
    ).eval()


def _wrapped(network: UNet2D, scheduler: Any) -> tuple[Denoiser, Grid, Algorithm]:
    """A network in the coordinates of its scheduler, its noise levels and its sampler."""
    settings = scheduler.config
    kind = settings["_class_name"]
    if kind in FLOW_SCHEDULERS:
        grid = FlowGrid(float(settings["shift"]), float(scheduler.sigma_min))
        flow = FlowDenoiser(network, float(settings["num_train_timesteps"]))
        return flow, grid, "heun" if "Heun" in kind else "euler"
    if kind in VP_SCHEDULERS:
        schedule = scheduler.alphas_cumprod.double().tolist()
        prediction = str(settings["prediction_type"])
        return VPDenoiser(network, schedule, prediction), TrailingGrid(schedule), "euler"
    low, high = float(settings["sigma_min"]), float(settings["sigma_max"])
    karras = KarrasGrid(low, high, float(settings["rho"]))
    spread = float(settings["sigma_data"])
    if kind in EDM_SCHEDULERS:
        return EDMDenoiser(network, spread, low, high), karras, "heun"
    # As OpenAI samples the models that it distilled: the 23rd of 40 levels.
    second = float(karras.sigmas(40)[22])
    model = ConsistencyDenoiser(network, spread, low, high)
    return model, PrefixGrid([high, second]), "consistency"
