"""Good input of every kind: small runs of three configurations, and what is made of them."""

import codecs
import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from PIL import Image

from kdlight.cli import VERBS
from tests.commands.tiny import TINY
from tests.fuzz.process import run

HERE = Path(__file__).parent
CONFIGS = ("tiny", "speech", "scores", "language")
RATE = 16_000


def preload() -> None:
    """Import whatever a command may import, so that every case starts with it."""
    for module, _ in VERBS.values():
        importlib.import_module(module)
    for name in (
        *(
            "modules.language.discrete.masked_diffusion_training",
            "datamodules.text.oracle_language",
        ),
        *("modules.diffusion.latent_consistency", "kdlight.teachers.latent", "transformers"),
        *("kdlight.commands.evaluate_codec", "kdlight.export.diffusers", "kdlight.export.traced"),
        *("modules.diffusion.dmd2", "modules.speech.codec_training", "sklearn.datasets"),
        *("datamodules.images.image_folder", "datamodules.speech.speech_folder"),
        *(
            "kdlight.callbacks.speech.tokens",
            "kdlight.callbacks.speech.collapse",
            "kdlight.teachers.diffusion",
        ),
        *("torch.utils.tensorboard", "kdlight.networks.speech.period", "tensorboard.compat.proto"),
    ):
        importlib.import_module(name)
    # Python imports it late, and a user who may read nothing may not read Python's own files.
    codecs.lookup("utf-8-sig")


def make(root: Path) -> None:
    """Write the corpus into an empty folder.

    Raises:
        RuntimeError: A command that ought to work does not.
    """
    _pictures(root / "pictures")
    _speech(root / "speech")
    _texts(root / "texts")
    teacher = _made(root, "kdlight/assets/digits_teacher.safetensors")
    _work(root, "fit", "--config", str(TINY), "--model.init_args.round_iterations", "2")
    run_of = "runs/tiny/version_0"
    last = f"{run_of}/checkpoints/last.ckpt"
    _work(root, "export", "--checkpoint", last, "--output", "teacher.safetensors", "--steps", "1")
    for name in CONFIGS[1:]:
        _work(root, "fit", "--config", str(HERE / f"{name}.yaml"))
    for name in CONFIGS:
        shutil.copy(root / f"runs/{name}/version_0/config.yaml", root / f"{name}.yaml")
    _work(root, "export", "--run", "runs/speech", "--output", "codec.safetensors")
    _work(root, "sample", "--checkpoint", last, "--num-samples", "6", "--output", "samples.pt")
    _work(root, "sample", "--checkpoint", last, "--num-samples", "6", "--output", "samples.npz")
    _work(root, "pairs", "--checkpoint", str(teacher), "--count", "8", "--steps", "2",
          "--output", "pairs.safetensors")  # fmt: skip
    _work(root, "encode", "--checkpoint", "codec.safetensors", "speech", "--output", "tokens")
    _foreign(root)
    _work(root, "evaluate", "statistics", "--data", "pictures", "--size", "8", "--features",
          "transformers:vision", "--output", "statistics.npz")  # fmt: skip
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def copied(source: Path, target: Path) -> None:
    """A file or folder of the corpus in a case's own folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def settings(root: Path, name: str) -> dict[str, Any]:
    """A configuration with every key that there is."""
    found: dict[str, Any] = yaml.safe_load((root / f"{name}.yaml").read_text())
    found["runs_dir"] = "runs"
    found["trainer"]["enable_progress_bar"] = False
    return found


def _work(root: Path, *words: str) -> None:
    outcome = run(words, root, 300)
    if outcome.code != 0:
        raise RuntimeError(f"{' '.join(words)}: {outcome.code} {outcome.err} {outcome.out}")


def _made(root: Path, name: str) -> Path:
    source = HERE.parents[1] / name
    for suffix in (".safetensors", ".json"):
        shutil.copy(source.with_suffix(suffix), root)
    return root / source.name


def _pictures(folder: Path) -> None:
    source, rows = np.random.default_rng(0), []
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for index in range(6):
            pixels = source.integers(0, 256, (8, 8)).astype(np.uint8)
            suffix = "tiff" if index == 5 else "png"
            Image.fromarray(pixels).save(folder / label / f"{index}.{suffix}")
            (folder / label / f"{index}.txt").write_text(f"a {label}\n")
            rows.append((f"{label}/{index}.{suffix}", label))
    (folder / "labels.csv").write_text("file_name,label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    lines = (f'{{"file_name": "{name}", "label": "{label}"}}\n' for name, label in rows)
    (folder / "labels.jsonl").write_text("".join(lines))


def _texts(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.txt").write_text("abba\nbaab\n")
    (folder / "b.jsonl").write_text('{"text": "abab"}\n{"text": "baba"}\n')
    (folder / "c.csv").write_text("id,text\n1,aabb\n2,bbaa\n")


def _speech(folder: Path) -> None:
    lines, words = [], []
    for index, speaker in enumerate("abc"):
        (folder / speaker).mkdir(parents=True)
        for number in range(2):
            time = np.arange(RATE // 2) / RATE
            wave = 0.3 * np.sin(2 * np.pi * (200 + 90 * index + 40 * number) * time)
            name = f"{speaker}/{number}.{'flac' if number else 'wav'}"
            soundfile.write(folder / name, wave, RATE)
            (folder / name).with_suffix(".txt").write_text("good morning\n")
            row = f'{{"audio": "{name}", "speaker": "{speaker}", "transcript": "good morning"}}'
            lines.append(row)
            words.append(f"{speaker}/{number}\tgood morning")
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    rows = [f"{line.partition(chr(9))[0]}.wav\t{line[0]}" for line in words[::2]]
    (folder / "manifest.tsv").write_text("\n".join(["audio\tspeaker", *rows]) + "\n")
    parts = [
        '{"audio": "a/0.wav", "start": 0.1, "end": 0.4, "speaker": "a", "transcript": "good"}',
        '{"audio": "b/1.flac", "start": 0.2, "id": "b/rest", "speaker": "b", "transcript": "so"}',
        '{"audio": "c/0.wav", "end": 0.3, "speaker": "c", "transcript": "morning"}',
    ]
    (folder / "parts.jsonl").write_text("\n".join(parts) + "\n")
    (folder / "words.tsv").write_text("\n".join(words) + "\n")


def _foreign(root: Path) -> None:
    """Files of other libraries, made in a process that may use them as it likes."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from tests.fuzz import published

            published.make(root)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("files of other libraries could not be made")
