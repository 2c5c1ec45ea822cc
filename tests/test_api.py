"""kdlight from Python does what the command line does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import kdlight
from kdlight.cli import main
from kdlight.commands.shared.writer import Writer
from kdlight.core.trust import is_trusted
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.audio import read_audio, write_audio
from kdlight.storage.tokenizers import CharacterTokenizer
from kdlight.storage.tokens import read_tokens
from tests.commands.tiny import TINY

CODEC = Path(__file__).parent / "files_of_0_1_0" / "codec" / "codec.safetensors"
TEACHER = Path(kdlight.__path__[0]) / "assets" / "digits_teacher.safetensors"


def test_importing_it_is_cheap() -> None:
    code = "import sys, kdlight; dir(kdlight); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = kdlight.lode


def test_samples_are_those_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "samples.pt"
    words = ["sample", "--checkpoint", str(TEACHER), "--num-samples", "12", "--steps", "3"]
    assert main([*words, "--seed", "4", "--output", str(path)]) == 0
    samples = kdlight.load(TEACHER).sample(12, steps=3, seed=4)
    expected = torch.load(path, weights_only=True)
    assert torch.equal(samples.images, expected["image"])
    assert torch.equal(samples.labels, expected["label"])
    assert samples._repr_png_().startswith(b"\x89PNG")
    assert samples.save(tmp_path / "grid.png").is_file()
    assert kdlight.load(TEACHER).sample(3, steps=1, label=7).labels.tolist() == [7, 7, 7]


def test_codes_are_those_of_the_command_line(tmp_path: Path) -> None:
    codec = kdlight.load(CODEC)
    tone = 0.3 * torch.sin(torch.arange(8000) * 0.05)
    write_audio(tmp_path / "tone.wav", tone[None], codec.sample_rate)
    words = ["encode", "--checkpoint", str(CODEC), str(tmp_path / "tone.wav")]
    assert main([*words, "--output", str(tmp_path)]) == 0
    audio = read_audio(tmp_path / "tone.wav", codec.sample_rate)
    codes = codec.encode(audio, codec.sample_rate)
    assert torch.equal(codes, read_tokens(tmp_path / "tone.npz").codes)
    assert codec.decode(codes).shape == (codes.shape[1] * codec.module.hop_length,)
    # Two channels at another rate: mixed and resampled.
    stereo = np.random.default_rng(0).standard_normal((2, 24_000)) / 10
    assert codec.encode(stereo, 48_000, n_q=1).shape == (1, 25)


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_long_file_in_blocks_has_the_codes_of_the_whole_in_python(
    rate: int, tmp_path: Path
) -> None:
    codec = kdlight.load(CODEC)
    noise = torch.randn(70 * rate, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "long.wav", 0.1 * noise[None], rate)
    words = ["encode", "--checkpoint", str(CODEC), str(tmp_path / "long.wav")]
    assert main([*words, "--output", str(tmp_path)]) == 0
    in_blocks = read_tokens(tmp_path / "long.npz").codes
    whole = codec.encode(read_audio(tmp_path / "long.wav"), rate)
    assert in_blocks.shape == whole.shape == (3, 70 * 50)
    # Resampling in blocks rounds otherwise, which may tip a code at a border between two.
    assert (in_blocks != whole).float().mean() <= (0 if rate == codec.sample_rate else 1e-3)
    words = ["decode", "--checkpoint", str(CODEC), str(tmp_path / "long.npz")]
    assert main([*words, "--output", str(tmp_path / "decoded")]) == 0
    decoded = read_audio(tmp_path / "decoded" / "long.wav")[0]
    assert len(decoded) == 70 * codec.sample_rate
    heard = codec.decode(in_blocks)[: len(decoded)].clamp(-1, 1)
    torch.testing.assert_close(decoded, heard, rtol=0, atol=2**-15 + 1e-5)  # 16 bits, and blocks


def test_a_seed_is_what_the_command_line_takes(tmp_path: Path) -> None:
    path = tmp_path / "samples.pt"
    words = ["sample", "--checkpoint", str(TEACHER), "--num-samples", "3", "--steps", "1"]
    assert main([*words, "--seed", str(2**63 - 1), "--output", str(path)]) == 0
    teacher = kdlight.load(TEACHER)
    images = teacher.sample(3, steps=1, seed=2**63 - 1).images
    assert torch.equal(images, torch.load(path, weights_only=True)["image"])
    assert not torch.equal(images, teacher.sample(3, steps=1, seed=1).images)
    # numpy's whole numbers are whole too.
    eight = teacher.sample(np.int64(3), steps=1.0, seed=np.int8(8)).images
    assert torch.equal(eight, teacher.sample(3, steps=1, seed=8).images)
    for wrong in (-1, 2**63):
        with pytest.raises(InputError, match="seed: expected a number from 0 to"):
            teacher.sample(3, seed=wrong)


def test_arrays_of_any_order_are_audio_and_codes() -> None:
    codec = kdlight.load(CODEC)
    tone = np.sin(np.arange(3200) * 0.05).astype("float32")
    codes = codec.encode(tone, 16_000)
    for same in (tone.astype(">f4"), tone[::-1].copy()[::-1], tone.tolist(), torch.tensor(tone)):
        assert torch.equal(codec.encode(same, 16_000.0), codes)
    assert torch.equal(codec.decode(codes.numpy().astype("uint16")), codec.decode(codes))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> "kdlight.Run":
    config = yaml.safe_load(TINY.read_text())
    folder = tmp_path_factory.mktemp("runs")
    return kdlight.fit(
        config | {"runs_dir": folder},  # a path, which YAML has no word for
        {"model.init_args.round_iterations": 4},
        data__init_args__batch_size=8,
    )


def test_fit_gives_a_run_that_loads(run: "kdlight.Run") -> None:
    assert run.report.is_file()
    assert {row["model"] for row in run.summary} == {"teacher", "student"}
    assert "batch_size: 8" in (run.folder / "config.yaml").read_text()
    student = run.load(steps=2)
    assert student.module.steps == (2,)
    assert kdlight.load(run.checkpoint, "student").sample(5).images.shape == (5, 1, 8, 8)


def test_bad_input_is_one_sentence(run: "kdlight.Run", tmp_path: Path) -> None:
    for call, sentence in (
        (lambda: kdlight.load(tmp_path / "none.ckpt"), "no such file"),
        (lambda: kdlight.load(tmp_path), "expected a checkpoints/last.ckpt below"),
        (lambda: kdlight.load(run.folder, "pupil"), "expected a model called 'pupil', found st"),
        (lambda: kdlight.load(TEACHER).sample(1, label=10), "expected a class from 0 to 9"),
        (lambda: kdlight.load(TEACHER).sample(1).save(tmp_path / "x.txt"), "ending in .png"),
        (lambda: kdlight.load(CODEC).encode(torch.zeros(1, 1, 9), 16000), "found (1, 1, 9)"),
        (lambda: kdlight.load(TEACHER).sample(1, batch_size=0), "batch_size: expected a number a"),
        (lambda: kdlight.load(TEACHER).sample(1, device="gpu"), "device: expected cpu, cuda or m"),
        (lambda: kdlight.load(CODEC).encode([float("nan")], 16000), "found a NaN"),
        (lambda: kdlight.load(CODEC).encode(np.ones(9, "int16"), 16000), "found torch.int16"),
        (lambda: kdlight.load(CODEC).encode(np.ones((9, 2)), 16000), "found (9, 2)"),
        (lambda: kdlight.load(CODEC).encode(np.full(9, 2e4), 16000), "audio: expected samples in"),
        (lambda: kdlight.load(CODEC).encode("a.wav", 16000), "a list of numbers, found str"),
        (lambda: kdlight.load(CODEC).encode(None, 16000), "a list of numbers, found NoneType"),
        (lambda: kdlight.load(CODEC).encode(np.array([None]), 16000), "found ndarray of object"),
        (lambda: kdlight.load(CODEC).encode([[0.1], [0.1, 0.2]], 16000), "numbers, found list"),
        (lambda: kdlight.load(CODEC).encode([0.1] * 900, 44100.5), "rate: expected a whole number"),
        (lambda: kdlight.load(CODEC).encode([0.1] * 900, 0), "rate: expected a number above 0"),
        (lambda: kdlight.load(CODEC).encode([0.1] * 900, 16000, n_q=1.5), "n_q: expected a whole"),
        (lambda: kdlight.load(CODEC).decode({}), "codes: expected a tensor"),
        (lambda: kdlight.load(CODEC).decode(np.ones((1, 4), bool)), "found torch.bool (1, 4)"),
        (lambda: kdlight.load(TEACHER).sample(1, seed=1.5), "seed: expected a whole number, fou"),
        (lambda: kdlight.load(TEACHER).sample(2.5), "count: expected a whole number, found 2.5"),
        (lambda: kdlight.load(TEACHER).sample(1, label="3"), "label: expected a whole number"),
        (lambda: kdlight.load(CODEC).decode(torch.zeros(9, 4).long()), "of 1 to 3 levels"),
        (lambda: kdlight.load(CODEC).decode(torch.full((1, 4), 99)), "from 0 to 31"),
        (lambda: kdlight.fit(TINY, modle=3, runs_dir=tmp_path), "modle: no such option"),
        (lambda: kdlight.fit(tmp_path / "x.yaml"), "x.yaml: no such file"),
        (lambda: kdlight.fit({"model": {"lr": torch.ones(1)}}), "model.lr: expected what a YAML"),
        (lambda: kdlight.fit(TINY, seed_everything=torch.ones(1)), "seed_everything: expected wh"),
        (lambda: kdlight.load(TEACHER, trust=["my.lab"]), "the name of a package, found 'my.lab'"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_one_package_is_trusted_by_its_name_not_by_its_letters() -> None:
    kdlight.load(TEACHER, trust="qz_lab")
    assert is_trusted("qz_lab")
    assert not is_trusted("q")


WRONG = (None, 3, b"x", ["a"], float("nan"), True, np.zeros(2))


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_path_or_name_is_a_sentence(value: object, tmp_path: Path) -> None:
    generator = kdlight.load(TEACHER)
    asks = [
        ("path", lambda: kdlight.load(value)),
        ("path", lambda: generator.sample(2, steps=1).save(value)),
        ("config", lambda: kdlight.fit(value)),
        ("folder", lambda: kdlight.Run(value)),
    ]
    if not isinstance(value, list):
        asks.append(("trust", lambda: kdlight.load(TEACHER, trust=value)))
    if value is not None:
        asks.append(("overrides", lambda: kdlight.fit("nowhere.yaml", value)))
        asks.append(("model", lambda: kdlight.load(TEACHER, model=value)))
    for name, ask in asks:
        with pytest.raises(InputError, match=f"^{name}: expected"):
            ask()


@pytest.mark.parametrize("name", ["count", "steps", "seed", "label", "batch_size"])
def test_a_truth_is_no_number(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: expected a whole number, found True"):
        kdlight.load(TEACHER).sample(**{"count": 2, "steps": 1, name: True})


@pytest.mark.parametrize("value", [3, True, float("nan"), b"x"])
def test_what_is_no_text_cannot_begin_a_text(value: object) -> None:
    network = TokenTransformer(5, 8, 1, 2, causal=True)
    letters = AutoregressiveGenerator(AutoregressiveModel(network, 5, 4))
    model = TextGenerator(letters, CharacterTokenizer("abc"))
    writer = Writer(model)
    for name in ("prompt", "infill"):
        with pytest.raises(InputError, match=f"^{name}: expected a text, found"):
            writer.sample(1, **{name: value})
