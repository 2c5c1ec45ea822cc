"""A student of few steps, consistency or EDM, as a ``ConsistencyModelPipeline``.

The scheduler of that pipeline has no list of noise levels: it takes whole numbers ("timesteps")
that point into a Karras grid (arXiv:2206.00364, eq. 5), laid from ``sigma_max`` down to
``sigma_min``. So the grid is made as fine as it takes to hit the levels of the student.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline
from numpy.typing import NDArray

from kdlight.diffusion.denoisers import ConsistencyDenoiser, Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.errors import InputError
from kdlight.export.folder import INSTEAD, check_steps, unet_of, write_pipeline
from kdlight.networks.images.unet import UNet2D

RHO = 7.0
FINEST = 1 << 22
"""Most points of the grid, which the scheduler lays out in memory when it is loaded."""
CLOSE = 1e-7
"""Relative error of a level that needs no finer grid: that of its own float32 number."""
ALLOWED = 1e-6

CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
---
A generator distilled with kdlight{classes}.

```python
from diffusers import ConsistencyModelPipeline

pipeline = ConsistencyModelPipeline.from_pretrained("path/to/this/folder")
{calls}
```

A timestep i names the noise level
`{first:g} * (1 - i / {last} * (1 - ({least:g} / {first:g}) ** (1 / 7))) ** 7`.
These calls meet the levels of the student; `num_inference_steps` above 1 would walk others.
{labels}"""

CALL = """
# {steps} step{plural}, from the noise level{plural} {levels}
images = pipeline(batch_size=4{labels}, {walk}).images"""

LABELS = """
Ask for a class by `class_labels`, 0 to {last}: without it diffusers draws labels at random{null}.
"""


def export_consistency(
    generator: Generator,
    denoiser: ConsistencyDenoiser | EDMDenoiser,
    path: Path,
    walks: Sequence[int],
) -> None:
    """Write a U-Net student as a ``ConsistencyModelPipeline`` folder.

    The pipeline, called as the folder's README.md says, draws its noise and gives the images of
    ``generator(noise, condition, steps)``, mapped to [0, 1] and clamped as diffusers does.
    EDM's preconditioning is that of consistency models with a boundary at 0.

    Args:
        generator: What to export.
        denoiser: Its denoiser, of a :class:`UNet2D` with a ``noise_scale`` of 1000.
        path: Folder to write; an earlier pipeline there is replaced as a whole.
        walks: Numbers of steps that the folder is for.

    Raises:
        InputError: The pipeline would not give the same images, or something else lives at
            ``path``.
    """
    network = _check(generator, denoiser, walks)
    levels = {steps: generator.grid.sigmas(steps)[:-1].tolist() for steps in sorted(walks)}
    first = next(iter(levels.values()))[0]
    sigma_min = _exact_square(denoiser.boundary)
    every = sorted({level for walk in levels.values() for level in walk}, reverse=True)
    _check_levels(every, levels, first, denoiser.boundary)
    count, timesteps = timestep_grid(every, sigma_min)
    scheduler = CMStochasticIterativeScheduler(
        num_train_timesteps=count,
        sigma_min=sigma_min,
        sigma_max=first,
        sigma_data=denoiser.sigma_data,
        s_noise=1.0,
        rho=RHO,
        clip_denoised=False,
    )
    pointer = dict(zip(every, timesteps, strict=True))
    card = _card(network, levels, pointer, count, sigma_min)
    pipeline = ConsistencyModelPipeline(unet=network.model, scheduler=scheduler)
    write_pipeline(pipeline, path, card)


def timestep_grid(levels: Sequence[float], sigma_min: float) -> tuple[int, list[int]]:
    """The coarsest Karras grid that holds some noise levels, and where it holds them.

    With ``r(sigma)`` the share of the way from ``sigma_max^(1/rho)`` to ``sigma_min^(1/rho)``,
    a grid of N points holds a level if ``(N - 1) r`` is whole: all N are tried in turn.

    Args:
        levels: Falling noise levels, the first the grid's own first, none below ``sigma_min``.
        sigma_min: Last level of the grid.

    Returns:
        Number N of points, and the index of each level. Levels are met to a relative error of
        1e-7, or, where no grid of up to 2^22 points does that, to the least there is.

    Raises:
        InputError: Not even to 1e-6.
    """
    roots = np.array([*levels, sigma_min], dtype=np.float64) ** (1 / RHO)
    shares = (roots[0] - roots[:-1]) / (roots[0] - roots[-1])
    # How fast a level changes, relative to itself, along the grid.
    slopes = RHO * (roots[0] - roots[-1]) / roots[:-1]
    best, least = 0, np.inf
    # From one more point than there are steps: the scheduler takes the last for the end.
    for start in range(len(levels) + 1, FINEST, 1 << 14):
        spans: NDArray[np.int64] = np.arange(start, min(start + (1 << 14), FINEST))
        places = shares[:, None] * spans
        errors = (slopes[:, None] * np.abs(places - places.round()) / spans).max(axis=0)
        close = np.flatnonzero(errors <= CLOSE)
        index = int(close[0] if len(close) else errors.argmin())
        if errors[index] < least:
            best, least = int(spans[index]), errors[index]
        if len(close):
            break
    if least > ALLOWED:
        raise InputError(
            f"sigmas: no Karras grid of up to {FINEST} timesteps, which is all that the scheduler "
            f"of ConsistencyModelPipeline knows, holds these {len(levels)} noise levels to "
            f"{ALLOWED:g}: {INSTEAD}, or export fewer steps."
        )
    return best + 1, (shares * best).round().astype(int).tolist()


def _exact_square(sigma_min: float) -> float:
    """``sigma_min`` in float32, whose square is the same rounded once or twice.

    After its last step the scheduler adds noise of ``sqrt(sigma^2 - sigma_min^2)``, where sigma is
    ``sigma_min`` in float32: 0 then, and else at times the root of a rounding error below 0.
    """
    return float(np.float32(sigma_min))


def _check(generator: Generator, denoiser: Denoiser, walks: Sequence[int]) -> UNet2D:
    for steps in walks:
        check_steps(generator, steps)
    network = unet_of(denoiser, noise_scale=1000.0)
    _, height, width = network.shape
    if height != width:
        raise InputError(
            f"size: ConsistencyModelPipeline draws square images, found {height} x {width}: "
            f"{INSTEAD}."
        )
    # One step to 0 is the same step for every sampler.
    if max(walks) > 1 and generator.algorithm != "consistency":
        raise InputError(
            f"algorithm: ConsistencyModelPipeline samples with consistency, "
            f"found {generator.algorithm}: {INSTEAD}."
        )
    return network


def _check_levels(
    every: Sequence[float], levels: dict[int, list[float]], first: float, sigma_min: float
) -> None:
    if {walk[0] for walk in levels.values()} != {first} or first != every[0]:
        raise InputError(
            f"grid: ConsistencyModelPipeline starts every walk at one noise level, found "
            f"{' and '.join(f'{walk[0]:g}' for walk in levels.values())}: {INSTEAD}, or export "
            f"one number of steps."
        )
    if every[-1] <= sigma_min:
        raise InputError(
            f"grid: expected noise levels above sigma_min {sigma_min:g}, found {every[-1]:g}: "
            f"{INSTEAD}."
        )


def _card(
    network: UNet2D,
    levels: dict[int, list[float]],
    pointer: dict[float, int],
    count: int,
    sigma_min: float,
) -> str:
    classes = network.num_classes
    labels = ", class_labels=[0, 1, 2, 3]" if classes > 3 else ", class_labels=[0, 0, 0, 0]"
    calls = []
    for steps, walk in levels.items():
        # Rising noise: the scheduler turns the list around.
        timesteps = [pointer[level] for level in reversed(walk)]
        how = f"num_inference_steps=None, timesteps={timesteps}"
        calls.append(
            CALL.format(
                steps=steps,
                plural="" if steps == 1 else "s",
                levels=", ".join(f"{level:g}" for level in walk),
                labels=labels if classes else "",
                walk="num_inference_steps=1" if steps == 1 else how,
            )
        )
    null = f", also {classes}, which stands for no class" if network.null_class else ""
    return CARD.format(
        classes=f", of {classes} classes" if classes else "",
        calls="\n".join(calls).removeprefix("\n"),
        first=levels[next(iter(levels))][0],
        least=sigma_min,
        last=count - 1,
        labels=LABELS.format(last=classes - 1, null=null) if classes else "",
    )
