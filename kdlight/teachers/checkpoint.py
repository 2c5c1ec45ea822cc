"""Generators out of files of kdlight: checkpoints of a run, and exported safetensors models."""

from pathlib import Path
from typing import Any

from torch import nn

from kdlight.core.spec import build
from kdlight.diffusion.denoisers import GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.storage.files import load_checkpoint, load_model, load_weights, sha256_of


def load_generators(path: Path) -> dict[str, list[Generator]]:
    """All generators of a file, by name, in evaluation mode.

    A run's checkpoint names what it trains ("teacher", "student"), the most recent first; a
    ``.safetensors`` model is one generator under the name of its file.

    Args:
        path: A checkpoint of kdlight, or what :func:`kdlight.storage.files.save_model` wrote.

    Raises:
        InputError: The file is missing, damaged, foreign, or holds no generator.
    """
    if path.suffix == ".safetensors":
        model = load_model(path)
        if not isinstance(model, Generator):
            raise InputError(f"{path}: expected a generator, found a {type(model).__name__}.")
        found = {path.stem: [model]}
    else:
        found = _from_checkpoint(path)
    provenance = {"source": str(path), "sha256": sha256_of(path)}
    for generator in (each for generators in found.values() for each in generators):
        generator.eval()
        denoiser = generator.denoiser
        denoiser.provenance = dict(provenance)
        while isinstance(denoiser, GuidedDenoiser):
            denoiser = denoiser.denoiser
            denoiser.provenance = dict(provenance)
    return found


def _from_checkpoint(path: Path) -> dict[str, list[Generator]]:
    found: dict[str, list[Generator]] = {}
    for name, model in load_models(path):
        if isinstance(model, Generator):
            found.setdefault(name, []).append(model)
    if not found:
        raise InputError(
            f"{path}: this checkpoint holds no generator of images; `generate` writes text and "
            "tokens, `encode` and `decode` are for codecs, `sample --text` speaks."
        )
    return found


def load_models(path: Path) -> list[tuple[str, nn.Module]]:
    """What a run's checkpoint says it can be loaded as, with names, in evaluation mode.

    Raises:
        InputError: The file is missing, damaged, foreign, or names no model.
    """
    checkpoint = load_checkpoint(path)
    entries = checkpoint.get("models")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: this checkpoint holds no model.")
    return [_from_entry(entry, checkpoint["state_dict"], path) for entry in entries]


def models_of(path: Path) -> list[tuple[str, nn.Module]]:
    """The models of a file with their names: of a checkpoint, or an exported one.

    Raises:
        InputError: The file is missing, damaged, foreign, or names no model.
    """
    if path.suffix == ".safetensors":
        return [(path.stem, load_model(path))]
    return load_models(path)


def _from_entry(entry: Any, state: dict[str, Any], path: Path) -> tuple[str, nn.Module]:
    if not isinstance(entry, dict) or not {"name", "prefix", "spec"} <= entry.keys():
        raise InputError(f"{path}: expected models with a name, a prefix and a spec.")
    try:
        model = build(entry["spec"])
    except InputError as error:
        raise InputError(f"{path}: {entry['name']}: {error}") from None
    if not isinstance(model, nn.Module):
        raise InputError(f"{path}: {entry['name']}: expected a model, found something else.")
    prefix = f"{entry['prefix']}."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    # A run keeps the denoiser of a generator; grid and sampler are in the spec.
    target: nn.Module = model
    if isinstance(model, (Generator, TokenGenerator, TextGenerator)):
        target = model.denoiser
    load_weights(target, weights, f"{path}: {entry['name']}")
    return str(entry["name"]), model.eval()


def pick_generator(path: Path, steps: int | None = None, name: str | None = None) -> Generator:
    """One generator of a file.

    Args:
        path: See :func:`load_generators`.
        steps: Number of steps it has to sample in. One that was made for this number comes
            before one that merely accepts it. None takes the most recent.
        name: Which model; None takes "student" if there is one, else the first.

    Raises:
        InputError: The file has no such model, or none that samples in that many steps.
    """
    found = load_generators(path)
    if name is None:
        name = "student" if "student" in found else next(iter(found))
    if name not in found:
        raise InputError(f"{path}: expected a model called {name!r}, found {', '.join(found)}.")
    candidates = found[name]
    if steps is None:
        return candidates[0]
    made_for = [generator for generator in candidates if steps in generator.steps]
    accepting = [generator for generator in candidates if generator.accepts(steps)]
    if not made_for + accepting:
        known = sorted({count for generator in candidates for count in generator.steps})
        raise InputError(
            f"{path}: {name} samples in {', '.join(map(str, known))} steps, not in {steps}."
        )
    return (made_for + accepting)[0]
