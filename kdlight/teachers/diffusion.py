"""Diffusion teachers, each a function that a YAML file can name as ``class_path``.

The oracle teacher needs no function: a ``Generator`` of a ``MixtureDenoiser``.
"""

from pathlib import Path

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.samplers import Algorithm
from kdlight.diffusion.sigmas import Grid, KarrasGrid, TrailingGrid
from kdlight.errors import InputError
from kdlight.teachers.checkpoint import pick_generator
from kdlight.teachers.folder import EDM_SCHEDULERS, open_folder, read_scheduler, read_unet

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
    steps: int = 50,
    algorithm: Algorithm | None = None,
    null_class: bool = False,
) -> Generator:
    """A pixel-space model of diffusers: ``DDPMPipeline``, ``DDIMPipeline`` and their like.

    A ``UNet2DModel`` with a variance-preserving scheduler (epsilon, v_prediction or sample) walks
    the trailing timesteps, one with an EDM scheduler the Karras grid. Clipping and thresholding
    of x0, which some schedulers do at every step, are not part of the denoiser.

    Args:
        path_or_id: A pipeline folder, a model folder that has a scheduler in or beside it, or an
            id on the Hugging Face hub. Only safetensors weights are read.
        steps: Default number of sampling steps.
        algorithm: Sampler; default: Euler (DDIM), or Heun for EDM.
        null_class: Whether the last class of a class-conditional network is the one for "no
            class", as in networks trained for classifier-free guidance.

    Raises:
        InputError: The folder is missing or damaged, or the model is of another kind.
    """
    folder = open_folder(path_or_id)
    scheduler = read_scheduler(folder)
    network, digest = read_unet(folder, null_class)
    settings = scheduler.config
    denoiser: Denoiser
    grid: Grid
    if settings["_class_name"] in EDM_SCHEDULERS:
        low, high = float(settings["sigma_min"]), float(settings["sigma_max"])
        denoiser = EDMDenoiser(network, float(settings["sigma_data"]), low, high)
        grid = KarrasGrid(low, high, float(settings["rho"]))
    else:
        schedule = scheduler.alphas_cumprod.double().tolist()
        denoiser = VPDenoiser(network, schedule, str(settings["prediction_type"]))
        grid = TrailingGrid(schedule)
    default: Algorithm = "heun" if isinstance(denoiser, EDMDenoiser) else "euler"
    denoiser.provenance = {"source": path_or_id, "sha256": digest}
    return Generator(denoiser, grid, network.shape, algorithm or default, (steps,)).eval()
