"""Every few-step method on latent pipelines: a step, a resumed run, stock diffusers' samples."""

import contextlib
import json

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline

from kdlight.core.frozen import digest
from kdlight.errors import InputError
from kdlight.export.diffusers import export_diffusers
from kdlight.export.pipeline import ADAPTERS
from kdlight.networks.images.transformers import packed
from kdlight.teachers.checkpoint import load_models
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.modules.diffusion.matrix import ADAPTABLE, METHODS, LatentData, adapters_for, build
from tests.modules.diffusion.pipelines import FAMILIES

# One cell of every row and of every column.
DIAGONAL = {("dmd2", "sd"), ("progressive_distillation", "sdxl"), ("sida", "dit"), ("ect", "sd3")}
# Of the other transformers one method of each kind: what differs between them is the adapter.
KINDS = ("progressive_distillation", "ect", "sida")
FURTHER = ("flux", "pixart", "sana", "qwen")
CELLS = [
    pytest.param(*cell, marks=() if cell in DIAGONAL else pytest.mark.slow)
    for cell in ((method, family) for method in METHODS for family in FAMILIES)
    if cell[1] not in FURTHER or cell[0] in KINDS
]


# Cells that make no sense, and what is said of them.
REFUSED = {("lcm", "sd3"): "teacher: expected a model with variance-preserving timesteps"} | {
    ("mean_flow", family): "student: expected a MeanFlowDenoiser of its own .* a VPDenoiser of a"
    for family in ("sd", "sdxl", "dit")
}


def loaded(folder, family):
    """The stock pipeline of a folder."""
    # Stable Diffusion 3 without its third encoder, as diffusers wants to be told.
    kept = {"text_encoder_3": None, "tokenizer_3": None} if family == "sd3" else {}
    pipeline = DiffusionPipeline.from_pretrained(folder, **kept)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline, family, noise, call):
    """What a stock pipeline draws from given noise."""
    if family == "dit":
        return drawn_by_dit(pipeline, noise, call)
    arguments = {"prompt": ["a cat", "dogs"], "output_type": "pt", **call}
    if family in ("flux", "qwen"):
        with packed_noise(noise.shape):
            return pipeline(latents=packed(noise), **arguments).images
    return pipeline(latents=noise, **arguments).images


@contextlib.contextmanager
def packed_noise(shape):
    """Fresh noise of a walk over tokens in the order in which a map of that shape is drawn."""
    import diffusers.schedulers.scheduling_flow_match_euler_discrete as module

    original = module.randn_tensor
    module.randn_tensor = lambda *_, **__: packed(torch.randn(shape))
    try:
        yield
    finally:
        module.randn_tensor = original


def stock(path, source, noise, family):
    """What stock diffusers draws, loaded and called as the folder's card says."""
    adapters = (path / ADAPTERS).is_file()
    pipeline = loaded(source if adapters else path, family)
    if adapters:
        config = json.loads((path / "scheduler_config.json").read_text())
        pipeline.scheduler = getattr(diffusers, config["_class_name"]).from_pretrained(path)
        pipeline.load_lora_weights(path)
    torch.manual_seed(7)
    return drawn(pipeline, family, noise, call_of(path))


def drawn_by_dit(pipeline, noise, arguments):
    """DiTPipeline takes no latents: hand it ours where it draws its own."""
    import diffusers.pipelines.dit.pipeline_dit as module

    original, first = module.randn_tensor, [noise]
    module.randn_tensor = lambda *a, **k: first.pop() if first else original(*a, **k)
    try:
        images = pipeline(**{**arguments, "class_labels": [0, 1], "output_type": "np"}).images
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


def compared(generator, family, folders, tmp_path):
    """Export, and compare what stock diffusers draws with what the generator does."""
    for steps in sorted({1, max(generator.steps)} & set(generator.steps)):
        out = tmp_path / f"{steps}_steps"
        export_diffusers(generator, out, steps)
        noise = torch.randn(2, *generator.shape, generator=torch.Generator().manual_seed(3))
        torch.manual_seed(7)
        mine = generator(noise, {"label": torch.tensor([0, 1])}, steps)
        theirs = stock(out, folders(family), noise, family)
        torch.testing.assert_close(theirs, (mine / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4)
        assert theirs.std() > 1e-3


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
    compared(generator, family, folders, tmp_path)


# Adapters on the teacher's own weights: one default cell, and all methods on one pipeline that
# loads adapters, all pipelines with one method.
OFTEN = ("ect", "sd3")
ADAPTED = [
    pytest.param(*cell, marks=() if cell == OFTEN else pytest.mark.slow)
    for cell in sorted(
        {(method, "sd") for method in ADAPTABLE}
        | {("dmd2", family) for family in FAMILIES}
        | {OFTEN}
    )
]


@pytest.mark.parametrize(("method", "family"), ADAPTED)
def test_a_student_of_adapters(method, family, teachers, folders, tmp_path):
    teacher = teachers(family)
    digest_before = digest(teacher)
    module = build(method, teacher, **adapters_for(method))
    base = {id(parameter) for parameter in teacher.parameters()}
    assert all(("lora_" in n) != (id(p) in base) for n, p in module.student.named_parameters())
    whole = fit(module, LatentData(teacher), [SaveAt(tmp_path, (2,))])
    made = build(method, teacher, **adapters_for(method))
    again = fit(made, LatentData(teacher), ckpt_path=tmp_path / "2.ckpt")
    assert not list(differing(state(whole), state(again)))
    assert digest(teacher) == digest_before
    ((_, stored),) = load_models(tmp_path / "2.ckpt")[-1:]
    *_, (_, generator) = whole.generators().values()
    for name, weight in generator.denoiser.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(stored.denoiser.state_dict()[name], weight), "needs no teacher"
    for name, weight in generator.denoiser.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)  # else four steps of training hardly show
    compared(generator, family, folders, tmp_path)
