"""Run folders as a training would leave them, made up but of realistic numbers."""

import functools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from sklearn.datasets import load_digits

CONFIG = """seed_everything: 0
model:
  class_path: modules.ProgressiveDistillation
  init_args:
    weighting: truncated_snr   # max(snr, 1)
    start_steps: 16
data:
  class_path: datamodules.DigitsDataModule
  init_args: {batch_size: 256}
"""


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_digits(return_X_y=True)


@functools.cache
def digit_grid(blur: float, seed: int, rows: int = 10, columns: int = 10) -> Image.Image:
    """Handwritten digits of 8 by 8 pixels in a grid with gaps, with noise of scale ``blur``."""
    images, labels = digits()
    generator = np.random.default_rng(seed)
    canvas = np.full((rows * 9 + 1, columns * 9 + 1), 255.0)
    for row in range(rows):
        for column in range(columns):
            image = images[generator.choice(np.flatnonzero(labels == column))].reshape(8, 8) * 16
            image = np.clip(image * (1 - blur) + blur * generator.normal(120, 80, (8, 8)), 0, 255)
            canvas[row * 9 + 1 : row * 9 + 9, column * 9 + 1 : column * 9 + 9] = image
    return Image.fromarray(canvas.astype(np.uint8))


def summary(quality: float) -> list[dict[str, object]]:
    """Rows of a teacher and a student whose distances are ``quality`` times the usual."""
    table = [
        ("teacher", 18, 35, "heun", 0.45, 0.98, 0.996, 2.31, 0.981, 0.94, 0.61, 1.0),
        ("teacher", 4, 4, "euler", 1.42, 6.1, 0.991, 2.44, 0.985, 0.81, 0.071, 8.6),
        ("teacher", 1, 1, "euler", 6.85, 31.2, 0.902, 2.97, 0.991, 0.52, 0.0187, 32.6),
        ("student", 4, 4, "euler", 0.51 * quality, 1.2, 0.996, 2.3, 0.979, 0.95, 0.0702, 8.7),
        ("student", 2, 2, "euler", 0.56 * quality, 1.5, 0.995, 2.3, 0.978, 0.94, 0.0362, 16.9),
        ("student", 1, 1, "euler", 0.63 * quality, 1.93, 0.994, 2.28, 0.977, 0.93, 0.0184, 33.2),
    ]
    keys = ("model", "steps", "nfe", "algorithm", "frechet_features", "frechet_pixels", "accuracy")
    keys += ("nearest", "memorisation", "variance", "ms_per_image", "speed_up")
    floors = {"frechet_features_floor": 0.21, "frechet_pixels_floor": 0.38, "teacher_gap": math.nan}
    return [dict(zip(keys, row, strict=True)) | floors for row in table]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "quickstart", seed: int = 0, quality: float = 1.0) -> Path:
        folder = tmp_path / "runs" / name / f"version_{seed}"
        (folder / "samples").mkdir(parents=True)
        noise = random.Random(f"{name}{seed}")
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "summary.json").write_text(json.dumps(summary(quality)))
        facts = {
            "name": name,
            "commit": "4f2a9c81d07be6a35512cd90aa71f3fe8e41b266",
            "versions": {"torch": "2.11.0", "lightning": "2.6.4"},
            "seed": seed,
            "teacher": {"source": "kdlight/assets/digits_teacher.safetensors", "sha256": "9b" * 32},
            "wall_seconds": 143.2,
            "cpu_seconds": 201.7,
            "iterations": 6000,
            "command": "python -m kdlight fit --config configs/quickstart.yaml",
        }
        (folder / "run.json").write_text(json.dumps(facts))
        lines = ["epoch,iteration,step,train/loss,train/round,val/frechet_features"]
        for step in range(10, 6001, 10):
            loss = quality * (0.02 + 0.2 * math.exp(-(step % 1500) / 400))
            loss *= math.exp(noise.gauss(0, 0.18))
            lines.append(f"{step // 500},{step},{step},{loss:.6f},{step // 1500},")
            if step % 500 == 0:
                distance = quality * (0.6 + 4 * math.exp(-step / 1200)) + noise.gauss(0, 0.02)
                lines.append(f"{step // 500},,{step},,,{distance:.5f}")
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        for iteration in range(0, 6001, 1500):
            blur = 0.9 * math.exp(-iteration / 1500)
            grid = digit_grid(blur, seed)
            grid.save(folder / "samples" / f"progress_{iteration:07d}.png")
        for model, steps, blur in [
            ("teacher", 18, 0.0),
            ("teacher", 1, 0.5),
            ("student", 1, 0.08),
            ("student", 2, 0.05),
            ("student", 4, 0.02),
        ]:
            digit_grid(blur, seed).save(folder / "samples" / f"final_{model}_{steps}.png")
        frames = [digit_grid(blur, seed, rows=4) for blur in (0.9, 0.6, 0.3, 0.0)]
        frames[0].save(
            folder / "samples" / "trajectory_teacher_18.gif",
            save_all=True,
            append_images=frames[1:],
            duration=300,
            loop=0,
        )
        return folder

    return make


@pytest.fixture
def make_codec_run(tmp_path: Path) -> Callable[..., Path]:
    """A codec of three levels, heard on two utterances of a second."""

    def make(name: str = "codec", seed: int = 0, quality: float = 1.0) -> Path:
        folder = tmp_path / "runs" / name / f"version_{seed}"
        samples = folder / "samples"
        samples.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"name": name, "seed": seed}))
        rows = []
        for n_q in (1, 2, 3):
            levels = {"usage": [0.9] * n_q, "perplexity": [40.0] * n_q, "entropy": [5.3] * n_q}
            row = {"model": "codec", "n_q": n_q, "kbps": 0.5 * n_q, "utterances": 40} | levels
            rows.append(row | {"log_mel_l1": 2 * quality / n_q, "stoi": 0.5 + 0.1 * n_q / quality})
        (folder / "summary.json").write_text(json.dumps(rows))
        listed = []
        for index in range(2):
            versions = []
            for n_q in (None, 1, 2, 3):
                file = f"utterance_{index}_{'original' if n_q is None else n_q}"
                sound = np.sin(np.arange(16000) * (0.05 + 0.01 * index)) * 0.3
                soundfile.write(samples / f"{file}.flac", sound, 16000)
                Image.new("RGB", (100, 80), (60 * (n_q or 4), 20, 90)).save(samples / f"{file}.png")
                figures = {} if n_q is None else {"log_mel_l1": 2 * quality / n_q, "stoi": 0.7}
                versions.append({"n_q": n_q, "file": file, "figures": figures})
            spoken = {"name": f"speech/reader/{index}", "speaker": "reader", "transcript": "a word"}
            listed.append(spoken | {"seconds": 1.0, "sample_rate": 16000, "versions": versions})
        (samples / "utterances.json").write_text(json.dumps(listed))
        return folder

    return make
