"""Every verb with wrong input: exit code 2, one sentence on what to change, nothing written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.commands.tiny import TINY, Run, refused, tree

MODEL, DATA = "--model.init_args.", "--data.init_args."
STUDENT = MODEL + "student.init_args.network."
REPORT = "kdlight.callbacks.images.generation.GenerationReport"


@pytest.fixture(scope="module")
def wrong(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files with something wrong in each."""
    folder = tmp_path_factory.mktemp("wrong")
    whole = checkpoint.read_bytes()
    (folder / "truncated.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "random.ckpt").write_bytes(bytes(range(256)) * 20)
    (folder / "empty.ckpt").write_bytes(b"")
    torch.save({"state_dict": {}, "note": SimpleNamespace()}, folder / "pickled.ckpt")
    torch.save({"weights": torch.zeros(3)}, folder / "foreign.ckpt")
    contents = torch.load(checkpoint, weights_only=True)
    for part in ("student", "ema.module"):
        del contents["state_dict"][f"{part}.network.input.weight"]
    torch.save(contents, folder / "lacking.ckpt")

    assets = Path(sys.modules["kdlight"].__path__[0]) / "assets"
    for suffix in (".json", ".safetensors"):
        shutil.copy(assets / f"digits_classifier{suffix}", folder / f"short{suffix}")
    with (folder / "short.safetensors").open("r+b") as stream:
        stream.truncate(3000)
    shutil.copy(assets / "digits_classifier.safetensors", folder / "lonely.safetensors")

    images = torch.zeros(20, 1, 8, 8)
    torch.save({"image": torch.zeros(20, 1, 9, 9)}, folder / "nine.pt")
    torch.save({"image": images, "label": torch.full((20,), 12)}, folder / "label12.pt")
    torch.save({"image": images, "label": torch.zeros(3).long()}, folder / "labels3.pt")
    torch.save({"image": images[:1]}, folder / "one.pt")
    torch.save({"image": images[:3]}, folder / "three.pt")
    torch.save({"image": images.byte()}, folder / "bytes.pt")
    torch.save({"image": images / 0}, folder / "nan.pt")
    torch.save(images, folder / "bare.pt")
    torch.save({"image": SimpleNamespace()}, folder / "pickled.pt")
    np.savez(folder / "objects.npz", image=np.array([{}], dtype=object))

    classes = [f"classes/{digit}" for digit in range(10)]
    for name in ("texts", "sizes", "nothing", "run", *classes):
        (folder / name).mkdir(parents=True)
    (folder / "texts" / "not.png").write_text("not a picture")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "sizes" / "0.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "sizes" / "1.png")
    half = (folder / "sizes" / "0.png").read_bytes()
    (folder / "cut").mkdir()
    (folder / "cut" / "half.png").write_bytes(half[: len(half) // 2])
    (folder / "run" / "summary.json").write_text("{")

    for suffix in ("yaml", "npz"):
        os.mkfifo(folder / f"pipe.{suffix}")
    (folder / "broken").symlink_to("nowhere")
    (folder / "text.yaml").write_text("hello\n")
    (folder / "list.yaml").write_text("- 1\n")
    (folder / "open.yaml").write_text("name: x\nmodel: [1\n")
    (folder / "twice.yaml").write_text("name: x\nname: y\n")
    (folder / "inside.yaml").write_text("model: &a {init_args: *a}\n")
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    key = {"model": {"init_args": {"teacher_stepz": 3}}}
    (folder / "key.yaml").write_text(yaml.safe_dump(key))
    (folder / "section.yaml").write_text("modle: {init_args: {seed: 1}}\n")
    return folder


CONFIGURATIONS = {
    # What is added to a good command line: what the sentence must hold.
    "--config nowhere.yaml": ["--config nowhere.yaml: no such file"],
    "--config": ["--config: no file given"],
    "--config WRONG": ["expected a file, found a folder"],
    "--config WRONG/pipe.yaml": ["pipe.yaml: expected a file, found a pipe or a device"],
    "--config WRONG/text.yaml": ["text.yaml", "expected a YAML mapping", "found str"],
    "--config WRONG/list.yaml": ["list.yaml", "found list"],
    "--config WRONG/open.yaml": ["open.yaml: line 3: not YAML"],
    "--config WRONG/twice.yaml": ["twice.yaml: line 2: the key 'name' is given twice."],
    "--config WRONG/inside.yaml": ["inside.yaml: line 1: this part contains itself."],
    "--config WRONG/binary.yaml": ["binary.yaml"],
    "--config WRONG/key.yaml": [
        "key.yaml: model.init_args.teacher_stepz: ",
        "did you mean teacher_steps?",
    ],
    "--config WRONG/section.yaml": ["section.yaml: modle: ", "did you mean model?"],
    # A wrong key.
    f"{MODEL}teacher_stepz 3": ["--model.init_args.teacher_stepz: ", "did you mean teacher_steps?"],
    f"{MODEL}optimizer.lrr 3": ["optimizer.lrr", "did you mean lr?"],
    f"{STUDENT}init_args.widht 3": ["student.init_args.network.init_args.widht", "mean width?"],
    f"{DATA}batchsize 3": ["data.init_args.batchsize", "did you mean batch_size?"],
    "--trainer.acelerator cpu": ["--trainer.acelerator", "did you mean accelerator?"],
    "--run_dir x": ["--run_dir", "did you mean runs_dir?"],
    "--batch_size 8": ["--batch_size: no such option; did you mean --data.init_args.batch_size?"],
    "--teacher_steps 8": ["did you mean --model.init_args.teacher_steps?"],
    f"--trainer.callbacks [{{class_path:{REPORT},init_args:{{clasifier:x}}}}]".replace(":", ": "): [
        "trainer.callbacks.0.init_args.clasifier",
        "did you mean classifier?",
    ],
    # A wrong class.
    "--model.class_path modules.diffusion.progressive_distillation.ProgressivDistillation": [
        "--model.class_path",
        "did you mean ProgressiveDistillation?",
    ],
    "--model.class_path modules.difusion.x.Y": ["there is no module modules.difusion.x"],
    "--model.class_path modules.diffusion.progresive_distillation.ProgressiveDistillation": [
        "there is no module modules.diffusion.progresive_distillation",
        "did you mean modules.diffusion.progressive_distillation?",
    ],
    "--model kdlight.networks.mlp.ScaleShiftMLP": ["model", "expected", "DistillationModule"],
    f"{MODEL}teacher.class_path kdlight.teachers.diffusion.bundled_teachr": [
        "did you mean bundled_teacher?"
    ],
    "--data nothing.Here": ["data", "there is no module nothing"],
    # A wrong type or value.
    f"{MODEL}teacher_steps many": ["teacher_steps: expected a whole number, found 'many'"],
    f"{MODEL}weighting snrr": ["weighting: expected one of constant, snr", "found 'snrr'"],
    f"{MODEL}optimizer.lr fast": ["optimizer.lr: expected a number, found 'fast'"],
    f"{MODEL}optimizer 3": ["optimizer: expected the settings of Optimization, found 3"],
    f"{MODEL}optimizer.lr -1": ["lr: expected a number above 0, found -1"],
    f"{MODEL}student_steps 3": ["student_steps", "halving 4 steps"],
    f"{MODEL}round_iterations [1,2,3]": ["round_iterations: expected 2 numbers above 0"],
    f"{DATA}batch_size 0": ["batch_size: expected a whole number above 0, found 0"],
    "--seed_everything x": ["seed_everything", "found 'x'"],
    "--seed_everything -1": ["seed_everything", "found -1"],
    "--threads 0": ["threads: expected a number above 0, found 0"],
    "--threads 1000000": ["threads: expected at most the ", "CPUs", "found 1000000"],
    "--checkpoint_every 0": ["checkpoint_every: expected a number above 0, found 0"],
    "--name a/b": ["name", "'a/b'"],
    "--runs_dir WRONG/bare.pt": ["runs_dir", "bare.pt"],
    "--trainer.precision 17": ["trainer.precision: expected one of 64, 32", "found 17"],
    **{
        f"--trainer.precision {wrong}": ["trainer.precision: expected 32-true, bf16-mixed or"]
        for wrong in ("bf16-true", "16-true", "64-true", "transformer-engine")
    },
    "--trainer.accelerator abacus": ["accelerator", "abacus"],
    "--trainer.devices many": ["devices", "many"],
    "--trainer.gradient_clip_val 1.0": ["trainer.gradient_clip_val", "optimizer.clip"],
    "--trainer.accumulate_grad_batches 2": ["model.init_args.accumulate"],
    # Parts that do not fit.
    f"{STUDENT}init_args.num_classes 7": ["student: expected the teacher's 10 classes, found 7"],
    f"{STUDENT}init_args.shape [1,9,9]": ["model.student.network: expected shape (1, 8, 8)"],
    f"{STUDENT}class_path kdlight.networks.images.dit.DiT": ["found a DiT of shape (3, 32, 32)"],
    "--data datamodules.images.mnist5k.MNIST5kDataModule": [
        "expected shape (1, 28, 28)",
        "MNIST5k",
    ],
    f"--trainer.callbacks [{{class_path:{REPORT},init_args:{{classifier:nix}}}}]".replace(
        ":", ": "
    ): ["classifier 'nix': expected a file or one of digits_classifier"],
    f"--trainer.callbacks [{{class_path:{REPORT},init_args:{{classifier:null,"
    "forgotten:[3]}}]".replace(":", ": "): [
        "forgotten: expected a classifier to judge the classes, found none"
    ],
    f"--trainer.callbacks [{{class_path:{REPORT},init_args:{{forgotten:[3,12],"
    "classifier:digits_classifier}}]".replace(":", ": "): [
        "forgotten: expected classes from 0 to 9 as the data has, found 12"
    ],
    # Files.
    f"{MODEL}teacher.init_args.name nix": ["expected a bundled teacher", "'nix'"],
    "--ckpt_path nowhere.ckpt": ["nowhere.ckpt: no such file"],
    "--ckpt_path last": ["ckpt_path last", "found none"],
    "--ckpt_path WRONG/truncated.ckpt": ["truncated.ckpt"],
    "--ckpt_path WRONG/random.ckpt": ["random.ckpt", "not a checkpoint"],
    "--ckpt_path WRONG/empty.ckpt": ["empty.ckpt"],
    "--ckpt_path WRONG/pickled.ckpt": ["pickled.ckpt"],
    "--ckpt_path WRONG/foreign.ckpt": ["foreign.ckpt", "expected a checkpoint of kdlight"],
    "--ckpt_path WRONG/lacking.ckpt": [
        "lacking.ckpt",
        "2 missing (ema.module.network.input.weight",
    ],
}


def words_of(text: str, wrong: Path) -> list[str]:
    name, _, value = text.replace("WRONG", str(wrong)).partition(" ")
    return [name, value] if value else [name]


@pytest.mark.parametrize("added", CONFIGURATIONS)
def test_fit_refuses(added: str, wrong: Path, kdlight: Run, tmp_path: Path) -> None:
    words = ["fit", "--config", TINY, "--runs_dir", tmp_path, *words_of(added, wrong)]
    refused(kdlight, words, *CONFIGURATIONS[added], where=tmp_path)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("", "ckpt_path: expected a checkpoint to "),
        ("--ckpt_path nowhere.ckpt", "nowhere.ckpt: no such file"),
        ("--ckpt_path WRONG/truncated.ckpt", "truncated.ckpt"),
        (f"{MODEL}teacher_stepz 3", "did you mean teacher_steps?"),
    ],
)
def test_measuring_verbs_refuse(
    verb: str, added: str, expected: str, wrong: Path, kdlight: Run, tmp_path: Path
) -> None:
    words = [verb, "--config", TINY, "--runs_dir", tmp_path]
    added_words = words_of(added, wrong) if added else []
    refused(kdlight, [*words, *added_words], expected, where=tmp_path)


def test_a_checkpoint_of_another_size_or_data_order(
    checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    words = ["fit", "--config", TINY, "--runs_dir", tmp_path, "--ckpt_path", checkpoint]
    wider = [*words, f"{STUDENT}init_args.width", 24]
    refused(kdlight, wider, "last.ckpt: weight student.", "expected shape (24", where=tmp_path)
    # Found only when training begins; the folder that was made by then is given back.
    batch = [*words, f"{DATA}batch_size", 8, f"{MODEL}round_iterations", 12]
    refused(kdlight, batch, "data order: expected global_batch 16", where=tmp_path)


def test_missing_sections(kdlight: Run, tmp_path: Path) -> None:
    refused(kdlight, ["fit", "--runs_dir", tmp_path], "model: expected", where=tmp_path)


def test_cuda_asked_for_but_absent(
    checkpoint: Path, kdlight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["fit", "--config", TINY, "--runs_dir", tmp_path, "--trainer.accelerator", "cuda"]
    refused(kdlight, words, "trainer.accelerator", "found 'cuda'", where=tmp_path)
    for verb in (["sample", "--output", tmp_path / "x.png"], ["evaluate", "images", "--data", "x"]):
        words = [*verb, "--checkpoint", checkpoint, "--device", "cuda"]
        refused(kdlight, words, "--device", "found 'cuda'", where=tmp_path)


def test_augmentation_needs_a_network_that_is_told(kdlight: Run, tmp_path: Path) -> None:
    config = yaml.safe_load(TINY.read_text())
    network = {
        "class_path": "kdlight.networks.images.dit.DiT",
        "init_args": {"size": 8, "channels": 1, "width": 16, "depth": 1},
    }
    config["model"] = {
        "class_path": "modules.diffusion.diffusion_training.DiffusionTraining",
        "init_args": {
            "denoiser": {
                "class_path": "kdlight.diffusion.denoisers.EDMDenoiser",
                "init_args": {"network": network},
            },
            "shape": [1, 8, 8],
            "optimizer": {"lr": 0.001},
            "augmentation": {"class_path": "kdlight.diffusion.augmentation.AffineAugmentation"},
        },
    }
    path = tmp_path / "leaky.yaml"
    path.write_text(yaml.safe_dump(config))
    words = ["fit", "--config", path, "--runs_dir", tmp_path / "runs"]
    refused(kdlight, words, "augmentation: expected a network with augment_dim 5", where=tmp_path)


OUR_VERBS = {
    "sample": ["--checkpoint"],
    "sample --checkpoint nowhere.ckpt": ["nowhere.ckpt: no such file"],
    "sample --checkpoint WRONG": ["expected a file, found a folder"],
    "sample --checkpoint WRONG/truncated.ckpt": ["truncated.ckpt"],
    "sample --checkpoint WRONG/random.ckpt": ["random.ckpt"],
    "sample --checkpoint WRONG/pickled.ckpt": ["pickled.ckpt"],
    "sample --checkpoint WRONG/foreign.ckpt": ["foreign.ckpt"],
    "sample --checkpoint WRONG/lacking.ckpt": ["lacking.ckpt", "network.input.weight"],
    "sample --checkpoint WRONG/short.safetensors": ["short.safetensors: truncated"],
    "sample --checkpoint WRONG/lonely.safetensors": ["lonely.json: no such file"],
    "sample --checkpoint GOOD --output x.jpg": ["x.jpg", ".png, .gif, .pt, .npz"],
    "sample --checkpoint GOOD --output WRONG/bare.pt/x.png": ["bare.pt", "found a file"],
    "sample --checkpoint GOOD --steps 3": ["student samples in 1, 2 steps, not in 3"],
    "sample --checkpoint GOOD --steps two": ["--steps: expected a whole number, found 'two'"],
    "sample --checkpoint GOOD --steps 0": ["--steps: expected a number above 0, found 0"],
    "sample --checkpoint GOOD --label 10": ["--label: expected a class from 0 to 9, found 10"],
    "sample --checkpoint GOOD --model nix": ["'nix'", "student"],
    "sample --checkpoint GOOD --device abacus": ["--device", "'abacus'"],
    "sample --checkpoint GOOD --num_samples 3": ["--num_samples", "did you mean --num-samples"],
    "evaluate": ["evaluate images"],
    "evaluate sounds": ["sounds"],
    "evaluate images --data digits": ["--checkpoint --samples"],
    "evaluate images --data nix --checkpoint GOOD": ["--data nix", "digits, mnist5k"],
    "evaluate images --data digits --checkpoint WRONG/truncated.ckpt": ["truncated.ckpt"],
    "evaluate images --data digits --checkpoint GOOD --steps 3": ["not in 3"],
    "evaluate images --data digits --checkpoint GOOD --num-samples 1": ["at least 2"],
    "evaluate images --data digits --checkpoint GOOD --output x.csv": ["x.csv", ".json"],
    "evaluate images --data digits --checkpoint GOOD --classifier nix": ["classifier 'nix'"],
    "evaluate images --data digits --checkpoint GOOD --features nix": ["--features", "'nix'"],
    "evaluate images --data digits --checkpoint GOOD --forgotten 3": ["--forgotten", "classifier"],
    "evaluate images --data digits --checkpoint GOOD --forgotten x": ["--forgotten", "'x'"],
    "evaluate images --data digits --checkpoint GOOD --classifier digits_classifier "
    "--forgotten 3 10": ["--forgotten: expected classes from 0 to 9", "last.ckpt", "found 10"],
    "evaluate images --data digits --samples WRONG/three.pt --classifier digits_classifier "
    "--forgotten 3": ["--forgotten: expected labels in", "three.pt, found none"],
    "evaluate images --data mnist5k --checkpoint GOOD": ["expected shape (1, 28, 28)"],
    "evaluate images --data WRONG/nothing --checkpoint GOOD": ["nothing", "found neither"],
    "evaluate images --data WRONG/classes --checkpoint GOOD": ["classes", "found none"],
    "evaluate images --data digits --samples nowhere.pt": ["nowhere.pt: no such file"],
    "evaluate images --data digits --samples WRONG/texts": ["not.png: cannot be read: no picture."],
    "evaluate images --data digits --samples WRONG/cut": ["half.png: cannot be read: no picture."],
    "evaluate images --data digits --samples WRONG/sizes": ["1.png", "(1, 8, 8)", "(1, 9, 9)"],
    "evaluate images --data digits --samples WRONG/nothing": ["expected PNG or JPEG images"],
    "evaluate images --data digits --samples WRONG/nine.pt": ["(1, 8, 8)", "(1, 9, 9)"],
    "evaluate images --data digits --samples WRONG/labels3.pt": ["label", "(3,)"],
    "evaluate images --data digits --samples WRONG/label12.pt --classifier digits_classifier": [
        "10 classes",
        "12",
    ],
    "evaluate images --data digits --samples WRONG/one.pt": ["at least 2 images"],
    "evaluate images --data digits --samples WRONG/bytes.pt": ["torch.uint8"],
    "evaluate images --data digits --samples WRONG/nan.pt": ["expected finite pixels"],
    "evaluate images --data digits --samples WRONG/bare.pt": ["'image' tensor"],
    "evaluate images --data digits --samples WRONG/pickled.pt": ["'image' tensor"],
    "evaluate images --data digits --samples WRONG/objects.npz": ["'image' tensor"],
    "evaluate images --data digits --samples WRONG/random.ckpt": ["'image' tensor"],
    "pairs": ["--checkpoint, --output"],
    "pairs --checkpoint nowhere.ckpt --output x.safetensors": ["nowhere.ckpt: no such file"],
    "pairs --checkpoint WRONG/truncated.ckpt --output x.safetensors": ["truncated.ckpt"],
    "pairs --checkpoint GOOD --output x.pt": ["x.pt", ".safetensors"],
    "pairs --checkpoint GOOD --output WRONG/bare.pt/x.safetensors": ["bare.pt", "found a file"],
    "pairs --checkpoint GOOD --output x.safetensors --steps 3": ["not in 3"],
    "pairs --checkpoint GOOD --output x.safetensors --count 0": ["--count", "above 0, found 0"],
    "pairs --checkpoint GOOD --output x.safetensors --seed -1": ["seed", "found -1"],
    "export": ["--output"],
    "export --run nowhere --output x.safetensors": ["--run nowhere", "found none"],
    "export --checkpoint WRONG/truncated.ckpt --output x.safetensors": ["truncated.ckpt"],
    "export --checkpoint GOOD --output x.onnx": ["x.onnx", ".safetensors"],
    "export --checkpoint GOOD --output x --half": ["--half", "found x"],
    "export --checkpoint GOOD --output x.safetensors --steps 7": ["not in 7"],
    "export --checkpoint GOOD --output WRONG/bare.pt/x": ["bare.pt", "found a file"],
    "sample --checkpoint GOOD --output -": ["--output -: expected a path, found '-'"],
    "sample --checkpoint GOOD --output ~/x.npz": ["expected a path, found '~'"],
    "sample --checkpoint GOOD --output WRONG/pipe.npz": ["expected a file, found a pipe"],
    "sample --checkpoint GOOD --output WRONG/broken": ["to be a folder, found a broken link"],
    "export --checkpoint GOOD --output WRONG/broken": ["found a broken link"],
    "report": ["RUN"],
    "report nowhere": ["nowhere: expected a run folder"],
    "report WRONG/nothing": ["nothing: expected a run folder"],
    "report WRONG/run": ["summary.json: expected JSON"],
    "report RUN --output x.pdf": ["x.pdf", ".html"],
    "report RUN --json x.txt": ["x.txt", ".json"],
    "report RUN --baseline nix": ["baseline", "tiny", "nix"],
    "report RUN --reach seconds": ["--reach", "'seconds'", "'updates'"],
    "report RUN --reach updates": ["reach: expected runs of at least two names, found tiny alone"],
    "list nix": ["'nix'", "methods"],
    "smaple": ["smaple", "did you mean sample?"],
}


@pytest.mark.parametrize("line", OUR_VERBS)
def test_our_verbs_refuse(
    line: str,
    wrong: Path,
    checkpoint: Path,
    run_folder: Path,
    kdlight: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"WRONG": str(wrong), "GOOD": str(checkpoint), "RUN": str(run_folder)}
    words = line.split()
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    around, run_before = tree(wrong), tree(run_folder)
    before = tree(tmp_path)
    code, _, err = kdlight(*words)
    assert code == 2, err
    assert err.startswith("kdlight")
    assert err.count("\n") == 1
    for text in OUR_VERBS[line]:
        assert text in err
    assert (tree(wrong), tree(run_folder), tree(tmp_path)) == (around, run_before, before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--config", str(TINY), f"{MODEL}teacher_stepz", "3"], "mean teacher_steps?"),
        (["sample", "--checkpoint", "nowhere.ckpt"], "nowhere.ckpt: no such file"),
    ],
)
def test_as_a_process(words: list[str], expected: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdlight", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
