"""kdlight from Python: what the command line does, as a few functions and classes.

Bad input raises :class:`kdlight.errors.InputError` with the sentence that the command line prints.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from kdlight.callbacks.images.pictures import grid_image
from kdlight.codec.codec import Codec as CodecModule
from kdlight.codec.foreign.files import is_repository
from kdlight.commands.parsing.arguments import check_output
from kdlight.commands.parsing.parser import quiet
from kdlight.commands.parsing.values import (
    device_named,
    path_of,
    seed_of,
    text_of,
    trust_all,
    whole_of,
)
from kdlight.commands.sample import SUFFIXES, draw, write
from kdlight.commands.shared.folders import newest_checkpoint
from kdlight.commands.shared.writer import Writer
from kdlight.commands.shared.writing import Texts, as_writer
from kdlight.commands.train import KDLightCLI
from kdlight.core.trust import trust
from kdlight.diffusion.generator import Generator as GeneratorModule
from kdlight.errors import InputError
from kdlight.storage.audio import check_scale
from kdlight.storage.codes import checked
from kdlight.storage.yaml_text import dump_yaml
from kdlight.teachers.checkpoint import models_of, pick_generator
from kdlight.teachers.codec import load_codec

__all__ = ["Codec", "Generator", "Run", "Samples", "Texts", "Writer", "fit", "load", "trust"]


@dataclass(frozen=True)
class Samples:
    """What a generator drew; a notebook shows it as a picture.

    Attributes:
        images: (N, C, H, W) around [-1, 1], or points (N, d).
        labels: (N,) int64, or None without classes.
    """

    images: Tensor
    labels: Tensor | None

    def save(self, path: str | Path) -> Path:
        """Write a ``.png``, ``.pt`` or ``.npz``, as ``kdlight sample`` does.

        Raises:
            InputError: Another suffix, or a place that takes no files.
        """
        path = path_of(path, "path")
        check_output(path, tuple(suffix for suffix in SUFFIXES if suffix != ".gif"))
        write(path, self.images, self.labels, [])
        return path

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        grid_image(self.images[:400]).save(picture, "PNG")
        return picture.getvalue()


@dataclass(frozen=True)
class Generator:
    """A diffusion teacher or student that samples.

    Attributes:
        module: The denoiser with its grid and sampler.
    """

    module: GeneratorModule

    def sample(
        self,
        count: int = 100,
        steps: int | None = None,
        seed: int = 0,
        label: int | None = None,
        batch_size: int = 500,
        device: str | torch.device = "cpu",
    ) -> Samples:
        """Draw samples, the same as ``kdlight sample`` with the same seed.

        Args:
            count: How many.
            steps: Sampling steps; those it was made for by default.
            seed: Seed of the noise, 0 to 2^63 - 1.
            label: One class instead of all in turn.
            batch_size: Samples at once.
            device: Where to compute; the samples come back to the CPU.

        Raises:
            InputError: A number is none or out of range, the generator has no such class or cannot
                sample in that many steps, or the device is not there.
        """
        count, batch_size = whole_of(count, "count", 1), whole_of(batch_size, "batch_size", 1)
        seed = seed_of(seed)
        steps = None if steps is None else whole_of(steps, "steps", 1)
        label = None if label is None else whole_of(label, "label")
        if label is not None and not 0 <= label < self.module.num_classes:
            classes = self.module.num_classes
            known = f"a class from 0 to {classes - 1}" if classes else "none: it has no classes"
            raise InputError(f"label: expected {known}, found {label}.")
        where = device_named(device)
        module = self.module.to(where)
        with torch.no_grad():
            images, labels, _ = draw(module, count, steps, seed, batch_size, where, label)
        return Samples(images, labels)


@dataclass(frozen=True)
class Codec:
    """A neural codec: audio to codes and back.

    Attributes:
        module: The encoder, quantiser and decoder.
    """

    module: CodecModule

    @property
    def sample_rate(self) -> int:
        """Samples per second of what it decodes."""
        return self.module.sample_rate

    def encode(self, audio: Any, rate: int, n_q: int | None = None) -> Tensor:
        """Codes of audio.

        Args:
            audio: (T,) or (channels, T), a tensor, an array or a list of floating-point numbers
                in [-1, 1]; channels are averaged.
            rate: Its samples per second; it is resampled where the codec has another.
            n_q: Levels; all by default.

        Returns:
            (n_q, F) int64.

        Raises:
            InputError: No array, another shape, more channels than samples, whole numbers, no
                samples, a number that is not finite or far beyond [-1, 1], or too many levels.
        """
        samples = _tensor_of(audio, "audio")
        if not samples.is_floating_point():  # 16-bit samples would be 32768 times too loud
            raise InputError(
                f"audio: expected floating-point numbers in [-1, 1], found {samples.dtype}."
            )
        samples = samples.float()
        # (T, channels), as some readers of audio files give it, would be averaged over time.
        turned = samples.ndim == 2 and samples.shape[0] > samples.shape[1]
        if samples.ndim not in (1, 2) or samples.numel() == 0 or turned:
            raise InputError(
                f"audio: expected samples (T,) or (channels, T), found {tuple(samples.shape)}."
            )
        if not bool(samples.isfinite().all()):
            raise InputError("audio: expected finite numbers, found a NaN or an infinity.")
        check_scale(samples, "audio")
        rate = whole_of(rate, "rate", 1)
        n_q = None if n_q is None else whole_of(n_q, "n_q")
        if n_q is not None and not 1 <= n_q <= self.module.n_q:
            raise InputError(f"n_q: expected levels from 1 to {self.module.n_q}, found {n_q}.")
        mono = samples if samples.ndim == 1 else samples.mean(0)
        if rate != self.sample_rate:
            mono = resample(mono, rate, self.sample_rate)
        where = next(self.module.parameters()).device
        return self.module.encode(mono[None, None].to(where), n_q)[0].cpu()

    def decode(self, codes: Any) -> Tensor:
        """Audio (F * hop_length,) at :attr:`sample_rate` of codes (n, F).

        Raises:
            InputError: Another shape, more levels than the codec has, or a code outside its
                codebook.
        """
        module = self.module
        found = checked(_tensor_of(codes, "codes"), module.n_q, module.codebook_size, "codes")
        where = next(module.parameters()).device
        return module.decode(found[None].to(where))[0, 0].cpu()


def _tensor_of(value: Any, name: str) -> Tensor:
    """``value`` as a tensor.

    Raises:
        InputError: It is none, and no array or list of numbers.
    """
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
        # In this machine's order of bytes, and not read backwards, which torch does not know.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except (TypeError, ValueError, RuntimeError):
        kind = f" of {value.dtype}" if isinstance(value, np.ndarray) else ""
        raise InputError(
            f"{name}: expected a tensor, an array or a list of numbers, "
            f"found {type(value).__name__}{kind}."
        ) from None


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: ``runs/<name>/version_N``.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", path_of(self.folder, "folder"))

    @property
    def checkpoint(self) -> Path:
        """Its last checkpoint."""
        return newest_checkpoint(self.folder, "run")

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.folder / "report.html"

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Rows of its table; empty if nothing measured it."""
        path = self.folder / "summary.json"
        return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []

    def load(self, model: str | None = None, steps: int | None = None) -> Any:
        """See :func:`load`."""
        return load(self.folder, model, steps)


def load(
    path: str | Path,
    model: str | None = None,
    steps: int | None = None,
    trust: str | Sequence[str] = (),
) -> "Generator | Codec | Writer | nn.Module":
    """A model out of a run, a file or the hub, to use at once.

    Args:
        path: Of a run's folder the newest checkpoint is taken. Also a folder of transformers
            (EnCodec, DAC, Mimi, X-Codec), or the id of such a codec on the Hugging Face hub.
        model: Which model of a checkpoint; the student, the codec or the first by default.
        steps: Of a generator: the step count it has to be made for.
        trust: A package, or several, whose classes the file may name; their code is run.

    Returns:
        A :class:`Generator`, a :class:`Codec`, a :class:`Writer`, or another module in evaluation
        mode.

    Raises:
        InputError: The file is missing, damaged or foreign, or holds no such model.
    """
    trust_all(trust)
    path, model = path_of(path, "path"), text_of(model, "model")
    steps = None if steps is None else whole_of(steps, "steps", 1)
    if (path / "config.json").is_file() or is_repository(str(path)):
        return Codec(load_codec(str(path), model))
    if path.is_dir():
        path = newest_checkpoint(path, "load")
    found = models_of(path)
    named = [each for name, each in found if model in (None, name)]
    if not named:
        known = ", ".join(dict.fromkeys(name for name, _ in found))
        raise InputError(f"{path}: expected a model called {model!r}, found {known}.")
    if any(isinstance(each, GeneratorModule) for each in named):
        return Generator(pick_generator(path, steps, model if len(found) > 1 else None))
    if (writer := as_writer(named[0])) is not None:
        return Writer(writer)
    codec = next((each for each in named if isinstance(each, CodecModule)), None)
    return named[0] if codec is None else Codec(codec)


def fit(
    config: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    trust: str | Sequence[str] = (),
    **options: Any,
) -> Run:
    """Train: what ``kdlight fit --config CONFIG`` does, in this process.

    Args:
        config: A YAML file, or its contents.
        overrides: Settings that win over it, by dotted key: ``{"model.init_args.iterations": 5}``.
        trust: A package, or several, whose classes a checkpoint may name; those in the settings
            are trusted.
        options: More overrides, with two underscores for a dot: ``data__init_args__batch_size=64``.

    Returns:
        The run.

    Raises:
        InputError: Anything is wrong with the settings; nothing is left behind.
        KeyboardInterrupt: The run was stopped; its last checkpoint is kept.
    """
    trust_all(trust)
    quiet()
    if not isinstance(overrides, Mapping | None):
        raise InputError(f"overrides: expected settings by their keys, found {overrides!r}.")
    settings = dict(overrides or {})
    settings |= {name.replace("__", "."): value for name, value in options.items()}
    words: list[str] = []
    for name, value in settings.items():
        plain = _plain(value, name)
        words += [f"--{name}", plain if isinstance(plain, str) else json.dumps(plain)]
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(config, Mapping):
            path = Path(folder) / "config.yaml"
            path.write_text(dump_yaml(_plain(config)), encoding="utf-8")
        else:
            path = path_of(config, "config")
        try:
            line = KDLightCLI("fit", ["--config", str(path), *words])
        except SystemExit:  # how Lightning ends at Ctrl-C
            raise KeyboardInterrupt from None
    assert line.run_folder is not None
    return Run(line.run_folder)


def _plain(value: Any, name: str = "") -> Any:
    """``value`` as YAML can hold it: paths become strings, tuples lists.

    Raises:
        InputError: It holds something else, such as a tensor or a module.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}".strip(".")) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, name) for item in value]
    if value is None:
        return None
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # a subclass, such as numpy.float64, is no word of YAML
    raise InputError(
        f"{name}: expected what a YAML file can hold (numbers, texts, paths, lists, mappings), "
        f"found {type(value).__name__}."
    )
