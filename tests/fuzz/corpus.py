"""Good input of every kind: small runs of three configurations, and what is made of them."""

import codecs
import importlib
import os
import re
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
from tests.fuzz.slots.base import BROUGHT

HERE = Path(__file__).parent
RATE = 16_000


def preload() -> None:
    """Import whatever a command may import, so that every case starts with it."""
    for module, _ in VERBS.values():
        importlib.import_module(module)
    written = "".join(path.read_text() for path in (HERE / "configs").iterdir())
    named = re.findall(r"\b((?:kdlight|modules|datamodules)\.[\w.]+)\.\w+", written)
    for name in (
        *(*named, "modules.diffusion.latent_consistency", "kdlight.teachers.latent"),
        *("transformers", "sklearn.datasets", "torch.utils.tensorboard"),
        *("tensorboard.compat.proto", "kdlight.export.diffusers", "kdlight.export.traced"),
        *("kdlight.commands.evaluate_codec", "kdlight.commands.encode_syllables"),
        *("datamodules.text.token_files", "datamodules.text.selected"),
        *("kdlight.teachers.diffusion", "kdlight.teachers.pipelines"),
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
    _elsewhere(root, "models")
    for name in list(BROUGHT)[1:]:
        _work(root, "fit", "--config", str(HERE / "configs" / f"{name}.yaml"))
    for name in BROUGHT:
        # A run keeps where its data lay: a case has its own beside it.
        written = (root / f"runs/{name}/version_0/config.yaml").read_text()
        (root / f"{name}.yaml").write_text(written.replace(f"{root}/", ""))
    _work(root, "export", "--run", "runs/speech", "--output", "codec.safetensors")
    _work(root, "sample", "--checkpoint", last, "--num-samples", "6", "--output", "samples.pt")
    _work(root, "sample", "--checkpoint", last, "--num-samples", "6", "--output", "samples.npz")
    _work(root, "pairs", "--checkpoint", str(teacher), "--count", "8", "--steps", "2",
          "--output", "pairs.safetensors")  # fmt: skip
    _work(root, "encode", "--checkpoint", "codec.safetensors", "speech", "--output", "tokens")
    _elsewhere(root, "published")
    _said_of_texts(root)
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


def _said_of_texts(root: Path) -> None:
    words = ("score", "texts/b.jsonl", "--output", "scores.jsonl")
    models = ("--teacher", "large.safetensors", "--reference", "small.safetensors")
    _work(root, *words, *models, "--student", "small.safetensors")
    _work(
        root, "score", "language.yaml", "--teacher", "oracle.safetensors", "--output", "rows.jsonl"
    )
    _work(root, "select", "rows.jsonl", "--by", "likelihood", "--output", "chosen.json")
    table = ("--draft", "trigram", "--draft-table", "table.json", "--output", "written.jsonl")
    _work(root, "generate", "--checkpoint", "large.safetensors", "--num-samples", "2", *table)


def _elsewhere(root: Path, name: str) -> None:
    """Files made in a process that may use other libraries as it likes."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            importlib.import_module(f"tests.fuzz.{name}").make(root)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"tests.fuzz.{name}: its files could not be made")
