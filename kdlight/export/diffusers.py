"""A few-step student as a pipeline that stock diffusers loads and runs."""

from pathlib import Path

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.latent import LatentConsistencyDenoiser, LatentGenerator
from kdlight.errors import InputError
from kdlight.export.consistency import export_consistency
from kdlight.export.ddim import export_ddim
from kdlight.export.folder import INSTEAD


def export_diffusers(generator: Generator, path: Path, steps: int | None = None) -> None:
    """Write a generator as the folder of the pipeline that is made for its kind of denoiser.

    Args:
        generator: What to export.
        path: Folder to write; an earlier pipeline there is replaced as a whole.
        steps: Number of steps the folder is for. None takes all that a consistency or EDM
            student is made for, and the default of any other.

    Raises:
        InputError: diffusers has no stock pipeline that would give the same images, or
            something else lives at ``path``.
    """
    denoiser = generator.denoiser
    if isinstance(generator, LatentGenerator):
        # Text encoders take seconds to import.
        from kdlight.export.pipeline import export_pipeline

        export_pipeline(generator, path, steps or generator.steps[0])
    elif isinstance(denoiser, (ConsistencyDenoiser, EDMDenoiser)):
        walks = generator.steps if steps is None else (steps,)
        export_consistency(generator, denoiser, path, walks)
    elif isinstance(denoiser, VPDenoiser) and not isinstance(denoiser, LatentConsistencyDenoiser):
        export_ddim(generator, denoiser, path, steps or generator.steps[0])
    else:
        raise InputError(
            f"a {type(denoiser).__name__} cannot become a diffusers pipeline, which needs a "
            f"VPDenoiser, an EDMDenoiser or a ConsistencyDenoiser: {INSTEAD}."
        )
