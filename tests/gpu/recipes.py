"""Recipes at their real shape on synthetic data: do they run, how fast, in how much memory.

``python -m tests.gpu`` runs ``fit`` on every configuration; images that would be downloaded are
replaced by random ones of that shape, speech, captioned pictures and latent pipelines by stand-ins,
teachers by untrained runs of their own configurations.
"""

import contextlib
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml

from datamodules.loader import StreamLoader
from kdlight.cli import main
from tests.gpu.stand_ins import replaced

CONFIGS = Path(__file__).parents[2] / "configs"
NO_RECIPES = ("base", "experiments")
OF_A_RUN = re.compile(r"runs/([^/]+)/version_\d+/checkpoints/last.ckpt")
"""Where a recipe finds the teacher that another one trains."""
DOWNLOADED = ("cifar10", "image_folder", "pairs", "hf_images", "streaming")
"""Data modules that want files; they are replaced."""
WARM_UP = 0.2
"""Share of the steps that is not timed."""


class SyntheticImages(L.LightningDataModule):
    """Random images, labels and noise, as the data module of a recipe gives them.

    Args:
        shape: Of an image.
        num_classes: Labels are below it; 0 for one class.
        batch_size: Images of a batch.
        seed: Of order and images.
    """

    def __init__(
        self, shape: list[int], num_classes: int = 0, batch_size: int = 64, seed: int = 0
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> StreamLoader:
        """Without end, from memory."""
        generator = torch.Generator().manual_seed(self.seed)
        count = 2 * self.batch_size
        image = torch.rand(count, *self.shape, generator=generator) * 2 - 1
        parts = {
            "image": image,
            "noise": torch.randn(image.shape, generator=generator),
            "label": torch.arange(count) % max(1, self.num_classes),
        }
        return StreamLoader(
            parts, batch_size=self.batch_size, steps_per_epoch=10_000, seed=self.seed
        )


class Measure(L.Callback):
    """Writes seconds a step, images a second and the peak of the device's memory.

    Args:
        path: A JSON file.
        steps: Length of the run.
        batch_size: Images of a step.
    """

    def __init__(self, path: str, steps: int, batch_size: int) -> None:
        self.path, self.batch_size = Path(path), batch_size
        self.first, self.done = max(1, int(steps * WARM_UP)), 0
        self.start = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.done += 1
        if self.done == self.first:
            self._wait(pl_module.device)
            self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        device = pl_module.device
        self._wait(device)
        timed = max(1, self.done - self.first)
        seconds = (time.perf_counter() - self.start) / timed
        on_gpu = device.type == "cuda"
        self.path.write_text(
            json.dumps(
                {
                    "steps": self.done,
                    "seconds_per_step": seconds,
                    "images_per_second": self.batch_size / seconds,
                    "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None,
                    "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
                }
            )
        )

    @staticmethod
    def _wait(device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def names() -> list[str]:
    """All recipes."""
    files = [path for path in CONFIGS.glob("*/*.yaml") if path.parent.name not in NO_RECIPES]
    return sorted(f"{path.parent.name}/{path.name}" for path in files)


def read(name: str) -> Any:
    """A configuration below ``configs``."""
    return yaml.safe_load((CONFIGS / name).read_text())


def found(config: Any, key: str) -> Any:
    """The first value under ``key``, however deep."""
    if isinstance(config, dict):
        if key in config and not isinstance(config[key], dict):
            return config[key]
        config = list(config.values())
    if isinstance(config, list):
        return next((value for each in config if (value := found(each, key)) is not None), None)
    return None


def runs_in(config: Any) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every checkpoint of another run that a configuration names: holder, key, name of the run."""
    if isinstance(config, list):
        for each in config:
            yield from runs_in(each)
    if isinstance(config, dict):
        for key, value in config.items():
            if isinstance(value, str) and (match := OF_A_RUN.fullmatch(value)):
                yield config, key, match[1]
            yield from runs_in(value)


def run(
    name: str,
    folder: Path,
    steps: int = 50,
    batch_size: int = 64,
    accelerator: str = "gpu",
    precision: str | None = None,
) -> dict[str, Any]:
    """Train a recipe for some steps.

    Args:
        name: Below ``configs``.
        folder: Where runs go; teachers are looked for there first.
        steps: Training batches; a recipe of rounds takes a tenth of them in each round, one of
            stages shares them out.
        batch_size: Images of a step, where the recipe's own is larger.
        accelerator: The trainer's.
        precision: The trainer's; null is the recipe's.

    Returns:
        What :class:`Measure` writes, or under ``failed`` why there is nothing.
    """
    config = replaced(read(name), folder / "stand_ins")
    arguments, data = config["model"]["init_args"], config["data"]
    shaped: Any = config
    for holder, key, of in list(runs_in(config)):
        checkpoint = folder / of / "version_0" / "checkpoints" / "last.ckpt"
        origin = next((other for other in names() if read(other).get("name") == of), None)
        if origin is None:
            return {"failed": f"no recipe here trains its {of}"}
        shaped = [shaped, read(origin)]
        if not checkpoint.is_file():
            failed = run(origin, folder, 1, 2, accelerator, precision).get("failed")
            if failed:
                return {"failed": f"its teacher {origin}: {failed}"}
        holder[key] = str(checkpoint)
    # A data module that adds a teacher's words to another's batches takes them as they are.
    batches = data["init_args"].get("data", data)["init_args"]
    batch_size = min(batch_size, batches.get("batch_size", batch_size))
    if data["class_path"].split(".")[-2] in DOWNLOADED:
        shape = found(shaped, "shape")
        classes = found(shaped, "num_classes") or 0
        data = {
            "class_path": f"{__name__}.SyntheticImages",
            "init_args": {"shape": shape, "num_classes": classes},
        }
        batches = data["init_args"]
    batches["batch_size"] = batch_size
    if "round_iterations" in arguments:
        arguments["round_iterations"] = max(1, steps // 10)
    elif stages := arguments.get("stage_iterations"):
        arguments["stage_iterations"] = [max(1, steps // len(stages))] * len(stages)
    else:
        arguments["iterations"] = steps
    path = folder / f"{name.replace('/', '_').removesuffix('.yaml')}.json"
    trainer = {
        "accelerator": accelerator,
        "devices": 1,
        "precision": precision or config["trainer"].get("precision"),
        "logger": False,
        "limit_val_batches": 0,
        "callbacks": [
            {
                "class_path": f"{__name__}.Measure",
                "init_args": {"path": str(path), "steps": steps, "batch_size": batch_size},
            }
        ],
    }
    made = {**config, "data": data, "trainer": trainer, "runs_dir": str(folder)}
    written = folder / f"{path.stem}.yaml"
    written.write_text(yaml.safe_dump(made))
    path.unlink(missing_ok=True)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["fit", "--config", str(written)])
    if code or not path.is_file():
        lines = [line for line in said.getvalue().splitlines() if line.startswith("kdlight")]
        return {"failed": lines[-1] if lines else f"exit code {code}"}
    measured: dict[str, Any] = json.loads(path.read_text())
    return measured
