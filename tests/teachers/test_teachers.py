import json
import shutil

import diffusers
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import EDMDenoiser, GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import FixedGrid, KarrasGrid
from kdlight.errors import InputError
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.storage.files import save_model, sha256_of
from kdlight.teachers import diffusion
from kdlight.teachers.checkpoint import load_generators, load_models, pick_generator
from kdlight.teachers.diffusion import bundled_teacher, diffusers_teacher, run_teacher


def small_generator(seed=0, steps=(4,), any_steps=True, guided=False):
    torch.manual_seed(seed)
    network = ScaleShiftMLP((1, 2, 2), 8, 1, num_classes=2, embedding=8)
    nn.init.normal_(network.output.weight)
    denoiser = EDMDenoiser(network)
    grid = KarrasGrid() if any_steps else FixedGrid(KarrasGrid().sigmas(steps[0]).tolist())
    wrapped = GuidedDenoiser(denoiser, 2.0) if guided else denoiser
    return Generator(wrapped, grid, (1, 2, 2), "euler", steps, any_steps)


def write_checkpoint(path, models):
    """A checkpoint as a run writes it: denoisers under their prefixes, and other parts."""
    state = {"_extra_state": {"iteration": 3}, "other.weight": torch.ones(3)}
    for prefix, (_, model) in models.items():
        weights = (model.denoiser if isinstance(model, Generator) else model).state_dict()
        state.update({f"{prefix}.{name}": tensor for name, tensor in weights.items()})
    entries = [
        {"name": name, "prefix": prefix, "spec": spec_of(model)}
        for prefix, (name, model) in models.items()
    ]
    torch.save({"state_dict": state, "models": entries}, path)


def same(a, b, steps=None):
    noise = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(7))
    condition = {"label": torch.tensor([0, 1, 2])}
    return torch.equal(a(noise, condition, steps), b(noise, condition, steps))


# kdlight's own files ------------------------------------------------------------------------


def test_generators_of_a_checkpoint(tmp_path):
    path = tmp_path / "run.ckpt"
    one = small_generator(1, (1,), any_steps=False)
    two = small_generator(2, (2,), any_steps=False)
    teacher = small_generator(3, (4,))
    guided = small_generator(4, (8,), guided=True)
    write_checkpoint(
        path,
        {
            "reference": ("teacher", teacher),
            "ema.module": ("student", one),
            "finished.2": ("student", two),
            "guided": ("guided", guided),
        },
    )
    found = load_generators(path)
    assert {name: len(each) for name, each in found.items()} == {
        "teacher": 1,
        "student": 2,
        "guided": 1,
    }
    assert same(pick_generator(path), one)
    assert same(pick_generator(path, steps=2), two)
    assert same(pick_generator(path, steps=7, name="teacher"), teacher, steps=7)
    assert same(run_teacher(str(path), "guided"), guided)
    source = {"source": str(path), "sha256": sha256_of(path)}
    for generator in (pick_generator(path), pick_generator(path, name="guided")):
        assert generator.denoiser.provenance == source
        assert not generator.training
    with pytest.raises(InputError, match="student samples in 1, 2 steps, not in 3"):
        pick_generator(path, steps=3)
    with pytest.raises(InputError, match="model called 'judge', found teacher, student, guided"):
        pick_generator(path, name="judge")


def test_one_made_for_a_step_count_comes_before_one_that_accepts_it(tmp_path):
    path = tmp_path / "run.ckpt"
    any_count, fixed = small_generator(1, (18,)), small_generator(2, (2,), any_steps=False)
    write_checkpoint(path, {"a": ("student", any_count), "b": ("student", fixed)})
    assert same(pick_generator(path, steps=2), fixed)
    assert same(pick_generator(path, steps=3), any_count, steps=3)


def test_models_that_generate_nothing_are_loaded_but_are_no_teachers(tmp_path):
    path = tmp_path / "run.ckpt"
    network = ScaleShiftMLP((2,), 8, 1, embedding=8)
    write_checkpoint(path, {"net": ("judge", network)})
    ((name, model),) = load_models(path)
    assert name == "judge"
    assert torch.equal(model.input.weight, network.input.weight)
    with pytest.raises(InputError, match="holds no generator"):
        run_teacher(str(path))


def test_exported_model_is_a_teacher_too(tmp_path):
    path = tmp_path / "small.safetensors"
    generator = small_generator()
    save_model(generator, path)
    assert same(run_teacher(str(path)), generator)
    assert same(run_teacher(str(path), "small", steps=3), generator, steps=3)
    save_model(generator.denoiser, path)
    with pytest.raises(InputError, match="expected a generator, found a EDMDenoiser"):
        run_teacher(str(path))


def test_damaged_checkpoints_are_named(tmp_path):
    path = tmp_path / "run.ckpt"
    with pytest.raises(InputError, match="no such file"):
        run_teacher(str(path))
    torch.save({"state_dict": {}}, path)
    with pytest.raises(InputError, match="holds no model"):
        run_teacher(str(path))
    torch.save({"state_dict": {}, "models": [{"name": "a"}]}, path)
    with pytest.raises(InputError, match="a name, a prefix and a spec"):
        run_teacher(str(path))
    write_checkpoint(path, {"a": ("student", small_generator())})
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["models"][0]["prefix"] = "b"
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="student: weights do not fit the model"):
        run_teacher(str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        run_teacher(str(path))


def test_bundled_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "ASSETS", tmp_path)
    generator = small_generator()
    save_model(generator, tmp_path / "tiny_teacher.safetensors")
    teacher = bundled_teacher("tiny_teacher")
    assert same(teacher, generator)
    assert teacher.denoiser.provenance["sha256"] == sha256_of(tmp_path / "tiny_teacher.safetensors")
    with pytest.raises(InputError, match=r"bundled teacher \(tiny_teacher\), found '../tiny'"):
        bundled_teacher("../tiny")


def test_digits_teacher_is_there_and_makes_images():
    teacher = bundled_teacher("digits_teacher")
    noise = torch.randn(4, *teacher.shape, generator=torch.Generator().manual_seed(0))
    images = teacher(noise, {"label": torch.arange(4)})
    assert teacher.num_classes == 10
    assert images.isfinite().all()
    assert images.abs().max() < 2


def test_teachers_are_class_paths_of_a_config(tmp_path):
    path = tmp_path / "small.safetensors"
    generator = small_generator()
    save_model(generator, path)
    parser = ArgumentParser()
    parser.add_argument("--teacher", type=Generator)
    config = {
        "teacher": {
            "class_path": "kdlight.teachers.diffusion.run_teacher",
            "init_args": {"checkpoint": str(path)},
        }
    }
    parsed = parser.instantiate_classes(parser.parse_object(config))
    assert same(parsed.teacher, generator)


# diffusers ----------------------------------------------------------------------------------


def unet(**kwargs):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=kwargs.pop("out_channels", 1),
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        **kwargs,
    ).eval()


def write_pipeline(path, scheduler, **kwargs):
    model = unet(**kwargs)
    diffusers.DDIMPipeline(model, scheduler).save_pretrained(path)
    return model


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_ddim_pipeline_folder_gives_the_x0_of_its_network(tmp_path, prediction, schedule):
    scheduler = diffusers.DDIMScheduler(
        prediction_type=prediction, beta_schedule=schedule, clip_sample=False
    )
    model = write_pipeline(tmp_path / "teacher", scheduler)
    teacher = diffusers_teacher(str(tmp_path / "teacher"), steps=5)
    denoiser = teacher.denoiser
    assert isinstance(denoiser, VPDenoiser)
    assert teacher.shape == (1, 8, 8)
    assert teacher.steps == (5,)
    assert denoiser.provenance["source"] == str(tmp_path / "teacher")
    alpha_bar = scheduler.alphas_cumprod.double()
    z = torch.randn(2, 1, 8, 8)
    for timestep in (3, 400, 800):
        scheduler.set_timesteps(1000)
        with torch.no_grad():
            output = model(z, timestep).sample
            expected = scheduler.step(output, timestep, z).pred_original_sample
            scale = 1 / alpha_bar[timestep].sqrt()
            sigma = ((1 - alpha_bar) / alpha_bar).sqrt()[timestep]
            estimate = denoiser((z * scale).float(), sigma)
        torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-4)


def test_teacher_walks_like_the_pipeline(tmp_path):
    scheduler = diffusers.DDIMScheduler(
        prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing"
    )
    write_pipeline(tmp_path, scheduler)
    teacher = diffusers_teacher(str(tmp_path), steps=4)
    pipeline = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        2, torch.Generator().manual_seed(3), num_inference_steps=4, output_type="pt"
    ).images
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close((teacher(noise) / 2 + 0.5).clamp(0, 1), images, rtol=0, atol=1e-5)


def test_edm_folder(tmp_path):
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, sigma_data=0.4)
    model = unet()
    model.save_pretrained(tmp_path)
    scheduler.save_pretrained(tmp_path)
    teacher = diffusers_teacher(str(tmp_path), steps=6)
    assert teacher.algorithm == "heun"
    scheduler.set_timesteps(6)
    x = noise = torch.randn(2, 1, 8, 8) * 50
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            raw = model(scheduler.scale_model_input(x, timestep), timestep).sample
            x = scheduler.step(raw, timestep, x).prev_sample
    teacher = diffusers_teacher(str(tmp_path), steps=6, algorithm="euler")
    torch.testing.assert_close(teacher(noise / 50), x, rtol=1e-4, atol=1e-4)


def test_class_conditional_model_folder_beside_its_scheduler(tmp_path):
    model = write_pipeline(
        tmp_path, diffusers.DDPMScheduler(prediction_type="sample"), num_class_embeds=4
    )
    label = torch.tensor([0, 3])
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor(0.0100005, dtype=torch.float64)
    teacher = diffusers_teacher(str(tmp_path / "unet"))
    sigma = torch.tensor(teacher.denoiser.sigma_min, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x / (1 + sigma**2).sqrt().float(), 0, class_labels=label).sample
        estimate = teacher.denoiser(x, sigma, {"label": label})
    torch.testing.assert_close(estimate, expected, rtol=1e-5, atol=1e-5)
    assert teacher.num_classes == 4
    with pytest.raises(InputError, match="label"):
        teacher(x)
    guided = diffusers_teacher(str(tmp_path), null_class=True)
    assert guided.num_classes == 3
    with torch.no_grad():
        none = guided.denoiser(x, sigma)
    assert torch.equal(none[1], estimate[1])


def test_a_diffusers_teacher_is_saved_and_rebuilt(tmp_path):
    write_pipeline(tmp_path / "pipeline", diffusers.DDIMScheduler(num_train_timesteps=50))
    teacher = diffusers_teacher(str(tmp_path / "pipeline"), steps=2)
    again = build(json.loads(json.dumps(spec_of(teacher)))).eval()
    again.load_state_dict(teacher.state_dict())
    noise = torch.randn(2, 1, 8, 8)
    assert torch.equal(again(noise), teacher(noise))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    write_pipeline(folder, diffusers.DDIMScheduler())
    return folder


def edit(path, **changes):
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps(value))


def truncate(path):
    path.write_bytes(path.read_bytes()[:2000])


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
NETWORK = "the UNet2DModel that config.json describes"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: truncate(f / WEIGHTS), NETWORK),
        (lambda f: (f / WEIGHTS).rename(f / "unet/x.bin"), "pickled weights are not read"),
        (lambda f: edit(f / "unet/config.json", layers_per_block=2), f"{NETWORK}, found"),
        (lambda f: edit(f / "unet/config.json", block_out_channels=[8, 16]), f"{NETWORK}, found"),
        (lambda f: edit(f / "unet/config.json", down_block_types=["No", "No"]), NETWORK),
        (lambda f: edit(f / "unet/config.json", _class_name="DiT"), "UNet2DModel, found DiT"),
        (lambda f: edit(f / "unet/config.json", sample_size=None), "expected a sample_size"),
        (lambda f: (f / "unet/config.json").write_text("{"), "expected JSON"),
        (lambda f: (f / "unet/config.json").unlink(), "found no config.json"),
        (lambda f: (f / SCHEDULER).unlink(), "found no scheduler_config.json"),
        (lambda f: (f / SCHEDULER).write_text("[]"), "expected a JSON object"),
        (lambda f: edit(f / SCHEDULER, _class_name="KarrasVe"), "scheduler, found KarrasVe"),
        (lambda f: edit(f / SCHEDULER, prediction_type="flow"), "prediction_type: expected eps"),
        (lambda f: edit(f / SCHEDULER, beta_schedule="odd"), "settings of a DDIMScheduler"),
        (lambda f: edit(f / SCHEDULER, rescale_betas_zero_snr=True), "epsilon, which in pure"),
        (
            lambda f: edit(f / "model_index.json", vae=["diffusers", "AutoencoderKL"]),
            "DDIMPipeline also needs vae",
        ),
        (
            lambda f: edit(f / "model_index.json", unet=["diffusers", "UNet2DConditionModel"]),
            "found UNet2DConditionModel",
        ),
    ],
)
def test_wrong_folders_are_named_in_one_sentence(good, tmp_path, harm, message):
    folder = tmp_path / "copy"
    shutil.copytree(good, folder)
    harm(folder)
    with pytest.raises(InputError, match=message) as caught:
        diffusers_teacher(str(folder))
    assert "\n" not in str(caught.value)


def test_missing_folder_and_repository(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such folder"):
        diffusers_teacher(str(tmp_path / "none"))

    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("kdlight.teachers.folder.snapshot_download", offline)
    with pytest.raises(InputError, match=r"someone/model: .* Hugging Face hub"):
        diffusers_teacher("someone/model")


def test_a_hub_repository_is_a_folder_once_fetched(good, monkeypatch):
    asked = []

    def fetch(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(good)

    monkeypatch.setattr("kdlight.teachers.folder.snapshot_download", fetch)
    teacher = diffusers_teacher("someone/model")
    assert teacher.denoiser.provenance["source"] == "someone/model"
    assert asked == [("someone/model", ["*.json", "*.safetensors"])]
