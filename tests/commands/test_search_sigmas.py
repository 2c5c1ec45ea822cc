"""Chosen and searched noise levels, from the formulas to the verbs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import ConsistencyModelPipeline
from torch import Tensor, nn

from kdlight.diffusion.denoisers import Condition, ConsistencyDenoiser, Denoiser, expand
from kdlight.diffusion.generator import Generator, noise_for
from kdlight.diffusion.multistep import with_sigmas
from kdlight.diffusion.sigmas import KarrasGrid, PrefixGrid
from kdlight.errors import InputError
from kdlight.metrics.images.sigma_search import SampleDistance, search_sigmas, ternary_search
from kdlight.networks.images.unet import UNet2D
from kdlight.storage.files import load_model, save_model
from tests.commands.tiny import Run, last_line

CPU = torch.device("cpu")


class Spread(Denoiser):
    """Exact for data N(0, 1), but too wide by a factor that is least at one noise level.

    The error is 1 + |log(sigma / best)| / 4 at most 2, so that a step at ``sigma`` from samples of
    spread s ends in the spread ``error sqrt((s^2 + sigma^2) / (1 + sigma^2))``.
    """

    def __init__(self, best: float) -> None:
        super().__init__(0.002, 80.0)
        self.best = best

    def error(self, sigma: Tensor) -> Tensor:
        return (1 + (sigma / self.best).log().abs() / 4).clamp(max=2)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        sigma = expand(sigma, x)
        return (self.error(sigma) * (1 + sigma**2).rsqrt()).to(x.dtype) * x


def spread(denoiser: Spread, sigmas: Sequence[float | Tensor]) -> Tensor:
    """Standard deviation of the samples, in closed form; a level may be many to try at once."""
    end = torch.zeros((), dtype=torch.float64)
    for level in (80.0, *sigmas):
        sigma = torch.as_tensor(level, dtype=torch.float64)
        end = denoiser.error(sigma) * ((end**2 + sigma**2) / (1 + sigma**2)).sqrt()
    return end


def test_ternary_search_of_one_valley() -> None:
    asked: list[float] = []

    def valley(x: float) -> float:
        asked.append(x)
        return (x - 1.3) ** 2

    found = ternary_search(valley, -4.0, 4.0, rounds=10)
    assert len(asked) == 20
    assert abs(found - 1.3) < 8 * (2 / 3) ** 10
    assert valley(found) == min(valley(x) for x in asked[:20])
    # A flat function is no reason to leave the interval.
    assert -4 < ternary_search(lambda x: math.inf, -4.0, 4.0) < 4


def test_search_finds_the_levels_of_a_closed_form() -> None:
    denoiser = Spread(best=0.7)
    generator = Generator(denoiser, PrefixGrid([80.0]), (2,), "consistency", (1,), False)
    walks: list[int] = []

    def too_wide(candidate: Generator) -> float:
        walks.append(candidate.steps[0])
        sigmas = candidate.grid.sigmas(candidate.steps[0])
        assert sigmas[0] == 80
        return float(spread(denoiser, sigmas[1:-1].tolist()) - 1) ** 2

    found = search_sigmas(generator, 2, too_wide, rounds=20)
    assert walks == [2] * 40 + [3] * 40, "one level at a time"
    assert found == [float(f"{sigma:g}") for sigma in found], "as they are printed"
    # The best level of each step, the earlier ones kept, by trying all.
    tried = torch.linspace(math.log(0.002), math.log(80), 20001, dtype=torch.float64).exp()
    first = tried[spread(denoiser, [tried]).argmin()]
    assert found[0] == pytest.approx(float(first), rel=2e-3)
    below = tried[tried < found[0]]
    second = below[spread(denoiser, [found[0], below]).argmin()]
    assert found[1] == pytest.approx(float(second), rel=2e-3)
    assert 0.7 < found[1] < 0.9 * found[0]


def test_search_over_samples_is_deterministic_and_uses_common_noise() -> None:
    denoiser = Spread(best=0.7)
    for shape in ((2,), (1, 2, 2)):
        generator = Generator(denoiser, PrefixGrid([80.0]), shape, "consistency", (1,), False)
        reference = torch.randn(1000, *shape, generator=torch.Generator().manual_seed(0))
        distance = SampleDistance([{"image": reference}], shape, None, 1000, 300, 3, 0, 1, CPU)
        assert distance(generator) == distance(generator)
        tried = torch.linspace(math.log(0.002), math.log(80), 2001, dtype=torch.float64).exp()
        best = float(tried[spread(denoiser, [tried]).argmin()])
        (found,) = search_sigmas(generator, 1, distance)
        assert found == search_sigmas(generator, 1, distance)[0]
        assert abs(math.log(found / best)) < 0.2


def test_a_walk_that_diverges_is_infinitely_bad() -> None:
    denoiser = Spread(best=1.0)
    denoiser.best = math.nan
    generator = Generator(denoiser, PrefixGrid([80.0]), (2,), "consistency", (1,), False)
    distance = SampleDistance([{"image": torch.randn(10, 2)}], (2,), None, 10, 10, 0, 0, 1, CPU)
    assert distance(generator) == math.inf


def student(**kwargs: int) -> Generator:
    torch.manual_seed(0)
    network = UNet2D(8, 1, block_out_channels=(8, 8), noise_scale=1000.0, **kwargs)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter[0].numel()))
    denoiser = ConsistencyDenoiser(network, 0.75, 0.02, 80.0)
    grid = PrefixGrid([80.0, 1.0])
    return Generator(denoiser, grid, (1, 8, 8), "consistency", (1, 2), False).eval()


def test_chosen_levels_sample_as_a_grid_that_has_them() -> None:
    generator = with_sigmas(student(), [1.5, 0.25])
    assert generator.steps == (3, 1, 2)
    assert not generator.training
    assert generator.grid.sigmas(3).tolist() == [80.0, 1.5, 0.25, 0.0]
    other = Generator(
        student().denoiser, PrefixGrid([80.0, 1.5, 0.25]), (1, 8, 8), "consistency", (3, 2), False
    )
    for steps in (2, 3):
        images = []
        for each in (generator, other):
            noise, condition = next(noise_for(each, 4, 4, 0, CPU))
            images.append(each(noise, condition, steps))
        assert torch.equal(*images)
    assert with_sigmas(student(), []).grid.sigmas(1).tolist() == [80.0, 0.0]


@pytest.mark.parametrize(
    "sigmas", [[80.0], [90.0], [0.02], [0.01], [1.0, 1.0], [1.0, 2.0], [math.nan], [1.0, 0.01]]
)
def test_levels_that_do_not_fall_between_the_bounds(sigmas: list[float]) -> None:
    with pytest.raises(InputError, match=r"^sigmas: expected falling .* below 80 and above 0.02"):
        with_sigmas(student(), sigmas)


def test_a_model_without_free_levels() -> None:
    generator = Generator(student().denoiser, KarrasGrid(), (1, 8, 8), "heun", (4,))
    with pytest.raises(InputError, match=r"algorithm consistency .* samples with heun\.$"):
        with_sigmas(generator, [1.0])
    free = Generator(Spread(0.7), PrefixGrid([80.0]), (2,), "consistency", (1,), False)
    free.denoiser.sigma_min = 0.0
    with pytest.raises(InputError, match="sigma_min: .* above 0, found 0"):
        search_sigmas(free, 1, lambda generator: 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "student.safetensors"
    save_model(student(num_classes=10), path)
    return path


def test_sample_at_chosen_levels(model: Path, kdlight: Run, tmp_path: Path) -> None:
    def images(*words: object) -> Tensor:
        path = tmp_path / "samples.pt"
        code, _, err = kdlight("sample", "--checkpoint", model, "--output", path, *words)
        assert code == 0, err
        return torch.load(path)["image"]

    assert torch.equal(images("--sigmas", 1.0), images("--steps", 2))
    three = images("--sigmas", 1.0, 0.3)
    assert torch.equal(three, images("--sigmas", 1.0, 0.3, "--steps", 3))
    assert not torch.equal(three, images("--steps", 2))
    # Fewer steps take the first levels.
    assert torch.equal(images("--sigmas", 1.0, 0.3, "--steps", 2), images("--steps", 2))
    assert torch.equal(images("--sigmas", 1.0, 0.3, "--steps", 1), images("--steps", 1))


def test_chosen_levels_stay_with_what_is_exported(
    model: Path, kdlight: Run, tmp_path: Path
) -> None:
    path = tmp_path / "chosen.safetensors"
    words = ["export", "--checkpoint", model, "--sigmas", 2.0, 0.5]
    assert kdlight(*words, "--output", path).code == 0
    assert load_model(path).steps == (3, 1, 2)
    assert load_model(path).grid.sigmas(3).tolist() == [80.0, 2.0, 0.5, 0.0]
    assert kdlight(*words, "--steps", 2, "--output", path).code == 0
    assert load_model(path).grid.sigmas(2).tolist() == [80.0, 2.0, 0.0]
    code, out, _ = kdlight(*words, "--output", tmp_path / "pipeline")
    assert (code, last_line(out)) == (0, tmp_path / "pipeline")
    assert ConsistencyModelPipeline.from_pretrained(tmp_path / "pipeline").unet.dtype
    assert (
        "3 steps, from the noise levels 80, 2, 0.5" in (tmp_path / "pipeline/README.md").read_text()
    )


def test_evaluate_at_chosen_levels(model: Path, kdlight: Run, tmp_path: Path) -> None:
    words = ["evaluate", "images", "--checkpoint", model, "--data", "digits", "--num-samples", 20]
    words += ["--output", tmp_path / "rows.json", "--sigmas", 0.9, 0.2]
    assert kdlight(*words).code == 0
    assert kdlight(*words, "--steps", 1, 2).code == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["steps"], row["sigmas"]) for row in rows] == [(1, []), (2, [0.9])]


def test_search_prints_and_writes_what_it_found(
    model: Path, kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdlight.metrics.images.sigma_search.ROUNDS", 2)
    monkeypatch.setattr("kdlight.metrics.images.sigma_search.search_sigmas.__defaults__", (2,))
    words = ["evaluate", "images", "--checkpoint", model, "--data", "digits", "--num-samples", 40]
    words += ["--search-sigmas", "--output", tmp_path / "rows.json"]
    code, out, err = kdlight(*words, "--steps", 3, 2)
    assert code == 0, err
    rows = json.loads((tmp_path / "rows.json").read_text())
    seen = [(row["steps"], row.get("levels"), len(row["sigmas"])) for row in rows]
    assert seen == [(1, None, 0), (2, "trained", 1), (2, "found", 1), (3, "found", 2)]
    assert rows[1]["sigmas"] == [1.0]
    first, second = rows[3]["sigmas"]
    assert rows[2]["sigmas"] == [first]
    *_, two, three, path = out.strip().splitlines()
    assert two == f"2 steps: --sigmas {first:g}"
    assert three == f"3 steps: --sigmas {first:g} {second:g}"
    assert path == str(tmp_path / "rows.json")
    for text in ("trained", "found"):
        assert f"student {text}" in out

    # What is printed gives the row that was printed, and the search the same every time.
    again = [*words[:8], "--sigmas", f"{first:g}", f"{second:g}", "--output", tmp_path / "one.json"]
    assert kdlight(*again).code == 0
    (row,) = json.loads((tmp_path / "one.json").read_text())
    timed = ("levels", "ms_per_image")
    assert row | dict.fromkeys(timed) == rows[3] | dict.fromkeys(timed)
    assert kdlight(*words).code == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["steps"], row["sigmas"]) for row in rows] == [(1, []), (2, [1.0]), (2, [first])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sample --checkpoint MODEL --sigmas 0.3 1.0", "falling noise levels below 80 and above"),
        ("sample --checkpoint MODEL --sigmas 0.001", "above 0.02, found 0.001"),
        ("sample --checkpoint MODEL --sigmas 100", "below 80 and above 0.02, found 100"),
        ("sample --checkpoint MODEL --sigmas x", "--sigmas: expected a number, found 'x'"),
        ("sample --checkpoint MODEL --sigmas nan", "--sigmas: expected a noise level above 0"),
        ("sample --checkpoint MODEL --sigmas 0", "--sigmas: expected a noise level above 0"),
        ("sample --checkpoint MODEL --sigmas", "--sigmas: expected at least one"),
        ("sample --checkpoint MODEL --sigmas 1 --steps 3", "--steps: 1 --sigmas make at most 2"),
        ("sample --checkpoint OTHER --sigmas 1", "consistency at any level, found a Generator"),
        ("export --checkpoint OTHER --sigmas 1 --output x", "found a Generator that samples with"),
        ("evaluate images --data digits --checkpoint OTHER --search-sigmas", "algorithm consist"),
        ("evaluate images --data digits --checkpoint OTHER --sigmas 1", "algorithm consistency"),
        (
            "evaluate images --data digits --checkpoint MODEL --search-sigmas --sigmas 1",
            "--sigmas: not allowed with argument --search-sigmas",
        ),
        (
            "evaluate images --data digits --checkpoint MODEL --search-sigmas --steps 1",
            "--search-sigmas: 1 step has no intermediate level",
        ),
        (
            "evaluate images --data digits --samples x.pt --search-sigmas",
            "--search-sigmas: expected a --checkpoint",
        ),
        ("evaluate images --data digits --samples x.pt --sigmas 1", "--sigmas: expected a --chec"),
    ],
)
def test_verbs_refuse(
    words: str,
    expected: str,
    model: Path,
    kdlight: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    other = Path(__file__).parents[2] / "kdlight" / "assets" / "digits_teacher.safetensors"
    places = {"MODEL": str(model), "OTHER": str(other)}
    code, _, err = kdlight(*(places.get(word, word) for word in words.split()))
    assert code == 2, err
    assert expected in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
