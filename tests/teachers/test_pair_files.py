"""Pairs of noise and image: what a file holds, and that a stale or damaged one is refused."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kdlight.core.frozen import digest
from kdlight.diffusion.denoisers import GuidedDenoiser
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.diffusion.latent import Autoencoder, LatentGenerator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.teachers.pairs import facts_of, file_name, make_pairs, read_pairs
from tests.exactness.diffusion_cases import tiny_denoiser, tiny_teacher


def metadata(file):
    with safe_open(file, "pt") as stream:
        return stream.metadata()


@pytest.fixture
def made(tmp_path):
    """Ten pairs of the tiny teacher in three steps, and their file."""
    file = tmp_path / "pairs.safetensors"
    make_pairs(tiny_teacher(), 10, file, 3, seed=2, batch_size=4)
    return file


def test_images_are_the_teachers_walks_from_the_noise(made):
    teacher = tiny_teacher()
    pairs = read_pairs(made, teacher, 10, 3, 2)
    assert pairs["noise"].shape == pairs["image"].shape == (10, 1, 4, 4)
    assert torch.equal(pairs["label"], torch.arange(10) % 2)
    expected = teacher(pairs["noise"], {"label": pairs["label"]}, 3)
    torch.testing.assert_close(pairs["image"], expected, rtol=0, atol=1e-5)
    facts = metadata(made)
    assert facts == facts_of(teacher, 10, 3, 2)
    assert facts["teacher"] == digest(teacher)
    assert (facts["steps"], facts["teacher_calls"]) == ("3", "5"), "Heun: 2 n - 1 calls"


def test_points_of_an_unlabelled_teacher_have_no_label(tmp_path):
    teacher = Generator(MixtureDenoiser([[0.3, -0.2]], 0.25), KarrasGrid(0.02, 10.0), (2,))
    make_pairs(teacher, 7, tmp_path / "points.safetensors")
    pairs = read_pairs(tmp_path / "points.safetensors", teacher, 7)
    assert set(pairs) == {"noise", "image"}
    assert metadata(tmp_path / "points.safetensors")["steps"] == "18", "the teacher's default"


def test_the_same_settings_give_the_same_pairs_in_any_batching(made, tmp_path):
    before = torch.get_rng_state()
    make_pairs(tiny_teacher(), 10, tmp_path / "a.safetensors", 3, seed=2, batch_size=4)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    make_pairs(tiny_teacher(), 10, tmp_path / "b.safetensors", 3, seed=2, batch_size=500)
    first, same, batched = (
        load_file(path) for path in (made, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    )
    assert metadata(made) == metadata(tmp_path / "a.safetensors")
    for name, tensor in first.items():
        assert torch.equal(same[name], tensor)
        torch.testing.assert_close(batched[name], tensor, rtol=0, atol=1e-4)


def test_no_pair_starts_where_samples_are_measured(made):
    # A student would be judged on what it was shown, were the seeds the same.
    noise = load_file(made)["noise"].flatten(1)
    measured, _ = next(noise_for(tiny_teacher(), 10, 10, 2, torch.device("cpu")))
    assert torch.cdist(noise, measured.flatten(1)).min() > 1


def others():
    """What of the settings may differ, and the word of the metadata that gives it away."""
    moved = tiny_teacher()
    with torch.no_grad():
        next(moved.parameters()).add_(1e-3)
    guided, stronger = (
        Generator(GuidedDenoiser(tiny_denoiser(), scale), KarrasGrid(0.02, 20.0), (1, 4, 4))
        for scale in (2.0, 3.0)
    )
    higher = Generator(tiny_denoiser(), KarrasGrid(0.02, 40.0), (1, 4, 4))
    euler = Generator(tiny_denoiser(), KarrasGrid(0.02, 20.0), (1, 4, 4), "euler")
    return {
        "teacher": (moved, 10, 3, 2),
        "teacher_guided": (guided, 10, 3, 2),
        "walk": (higher, 10, 3, 2),
        "walk_euler": (euler, 10, 3, 2),
        "count": (tiny_teacher(), 11, 3, 2),
        "walk_steps": (tiny_teacher(), 10, 4, 2),
        "seed": (tiny_teacher(), 10, 3, 5),
        "teacher_stronger": (stronger, 10, 3, 2),
    }


@pytest.mark.parametrize("name", list(others()))
def test_other_pairs_are_refused(name, made):
    word = name.partition("_")[0]
    with pytest.raises(InputError, match=rf"pairs.safetensors: expected pairs of {word} ") as error:
        read_pairs(made, *others()[name])
    assert "\n" not in str(error.value)


def test_every_setting_has_a_file_of_its_own():
    settings = [(tiny_teacher(), 10, 3, 2), *others().values()]
    names = [file_name(facts_of(*each)) for each in settings]
    assert len(set(names)) == len(names)
    assert file_name(facts_of(*settings[0])) == names[0]


def test_damaged_and_foreign_files_are_refused(made, tmp_path):
    ask = (tiny_teacher(), 10, 3, 2)
    with pytest.raises(InputError, match="nowhere: no such file"):
        read_pairs(tmp_path / "nowhere", *ask)
    short = tmp_path / "short.safetensors"
    short.write_bytes(made.read_bytes()[:-9])
    with pytest.raises(InputError, match="short.safetensors: truncated, or not a safetensors"):
        read_pairs(short, *ask)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"image": torch.zeros(3)}, foreign)
    with pytest.raises(InputError, match="expected pairs of format kdlight-pairs-1, found none"):
        read_pairs(foreign, *ask)
    tensors = load_file(made)
    save_file({"noise": tensors["noise"]}, foreign, metadata(made))
    with pytest.raises(InputError, match="foreign.safetensors: expected tensors of shapes"):
        read_pairs(foreign, *ask)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_stop_on_the_way_leaves_nothing(stop, tmp_path):
    teacher, calls = tiny_teacher(), []

    def halt(*_):
        calls.append(True)
        if len(calls) > 7:
            raise stop

    teacher.denoiser.network.register_forward_hook(halt)
    with pytest.raises(stop):
        make_pairs(teacher, 10, tmp_path / "pairs.safetensors", 3, batch_size=4)
    assert not list(tmp_path.iterdir())


class Identity(Autoencoder):
    def decode(self, latent):
        return latent


def test_a_teacher_that_cannot_make_pairs(tmp_path):
    grid, shape = KarrasGrid(0.02, 20.0), (1, 4, 4)
    file = tmp_path / "pairs.safetensors"
    noisy = Generator(tiny_denoiser(), grid, shape, "euler_ancestral")
    latent = LatentGenerator(tiny_denoiser(), grid, shape, Identity())
    one = Generator(tiny_denoiser(), grid, shape, steps=(1, 2), any_steps=False)
    broken = tiny_teacher()
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    for arguments, words in (
        ((noisy, 10, file), "teacher: expected a deterministic sampler .* found euler_ancestral"),
        ((latent, 10, file), "teacher: expected .* found a LatentGenerator, which decodes"),
        ((one, 10, file, 3), "steps: expected 1, 2 as the teacher samples in, found 3"),
        ((tiny_teacher(), 0, file), "count: expected at least 1, found 0"),
        ((tiny_teacher(), 10, file, 0), "steps: expected at least 1, found 0"),
        ((tiny_teacher(), 10, file, 3, -1), "seed: expected at least 0, found -1"),
        ((tiny_teacher(), 10, file, 3, 0, 0), "batch_size: expected at least 1, found 0"),
        ((tiny_teacher(), 10, tmp_path / "x.pt"), "x.pt: expected a name that ends in .safeten"),
        ((broken, 10, file), "teacher: expected finite samples"),
    ):
        with pytest.raises(InputError, match=words):
            make_pairs(*arguments)
    assert not list(tmp_path.iterdir())
