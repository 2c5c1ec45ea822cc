"""Every few-step method on latent pipelines: a step, a resumed run, stock diffusers' samples."""

import pytest
import torch
from diffusers import DiffusionPipeline

from kdlight.errors import InputError
from kdlight.export.diffusers import export_diffusers
from kdlight.teachers.latent import latent_teacher
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.modules.diffusion.matrix import METHODS, LatentData, build
from tests.modules.diffusion.pipelines import FAMILIES, write_family

# One cell of every row and of every column.
DIAGONAL = {("dmd2", "sd"), ("progressive_distillation", "sdxl"), ("sida", "dit"), ("ect", "sd3")}
CELLS = [
    pytest.param(*cell, marks=() if cell in DIAGONAL else pytest.mark.slow)
    for cell in ((method, family) for method in METHODS for family in FAMILIES)
]


# Cells that make no sense, and what is said of them.
REFUSED = {("lcm", "sd3"): "teacher: expected a model with variance-preserving timesteps"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    made = {}

    def get(family):
        if family not in made:
            made[family] = write_family(family, root / family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def teachers(folders):
    made = {}

    def get(family):
        if family not in made:
            prompts = None if family == "dit" else ["a cat", "dogs"]
            made[family] = latent_teacher(folders(family), prompts, guidance_scale=2.0)
        return made[family]

    return get


def stock(path, noise, labelled, call, family):
    """What stock diffusers draws, called as the folder's card says."""
    # Stable Diffusion 3 without its third encoder, as diffusers wants to be told.
    kept = {"text_encoder_3": None, "tokenizer_3": None} if family == "sd3" else {}
    pipeline = DiffusionPipeline.from_pretrained(path, **kept)
    pipeline.set_progress_bar_config(disable=True)
    arguments = dict(call)
    arguments |= {"latents": noise, "output_type": "pt"}
    torch.manual_seed(7)
    if labelled:
        return drawn_by_dit(pipeline, noise, arguments)
    return pipeline(["a cat", "dogs"], **arguments).images


def drawn_by_dit(pipeline, noise, arguments):
    """DiTPipeline takes no latents: hand it ours where it draws its own."""
    import diffusers.pipelines.dit.pipeline_dit as module

    original, first = module.randn_tensor, [noise]
    module.randn_tensor = lambda *a, **k: first.pop() if first else original(*a, **k)
    try:
        images = pipeline(
            class_labels=[0, 1],
            guidance_scale=1,
            num_inference_steps=arguments["num_inference_steps"],
            output_type="np",
        ).images
    finally:
        module.randn_tensor = original
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def call_of(path):
    """The arguments in the call of a folder's README."""
    lines = (path / "README.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith("pipeline("))
    found = {}
    eval(line, {"pipeline": lambda *a, **k: found.update(k)})
    return found


@pytest.mark.parametrize(("method", "family"), CELLS)
def test_a_method_on_a_pipeline(method, family, teachers, folders, tmp_path):
    teacher = teachers(family)
    if (method, family) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[method, family]):
            build(method, teacher)
        return
    data = LatentData(teacher)
    whole = fit(build(method, teacher), data, [SaveAt(tmp_path, (2,))])
    assert whole.non_finite_total == 0
    again = fit(build(method, teacher), data, ckpt_path=tmp_path / "2.ckpt")
    assert not list(differing(state(whole), state(again)))
    before = dict(build(method, teacher).student.named_parameters())
    assert any(
        not torch.equal(weight, before[name]) for name, weight in whole.student.named_parameters()
    )
    *_, (_, generator) = whole.generators().values()
    for steps in sorted({1, max(generator.steps)} & set(generator.steps)):
        export_diffusers(generator, tmp_path / "out", steps)
        noise = torch.randn(2, *generator.shape, generator=torch.Generator().manual_seed(3))
        torch.manual_seed(7)
        mine = generator(noise, {"label": torch.tensor([0, 1])}, steps)
        theirs = stock(tmp_path / "out", noise, family == "dit", call_of(tmp_path / "out"), family)
        torch.testing.assert_close(theirs, (mine / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4)
        assert theirs.std() > 1e-3
