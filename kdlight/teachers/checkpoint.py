"""Generators out of files of kdlight: checkpoints of a run, and exported safetensors models."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdlight.core.frozen import digest
from kdlight.core.spec import build
from kdlight.diffusion.denoisers import GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import TextGenerator, writes_tokens
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
    place = f"{path}: {entry['name']}"
    load_weights(_kept_of(model), weights | _borrowed(entry.get("borrowed"), place), place)
    return str(entry["name"]), model.eval()


def _kept_of(model: nn.Module) -> nn.Module:
    """What a run keeps of a model: the denoiser of a generator; the rest is in the spec."""
    if isinstance(model, (Generator, TokenGenerator, TextGenerator)):
        return model.denoiser
    return model


def _borrowed(parts: Any, place: str) -> dict[str, Tensor]:
    """Weights of a model that are a teacher's, out of the teacher's own file.

    Args:
        parts: For each part its teacher's ``source``, the teacher's ``digest``, and the part's
            ``place`` in it; None in checkpoints that keep such parts themselves.
        place: The checkpoint and the model, for messages.

    Raises:
        InputError: The teacher came from no file, or its file is gone or another by now.
    """
    found: dict[str, Tensor] = {}
    for part, known in parts.items() if isinstance(parts, dict) else ():
        known = known if isinstance(known, dict) else {}
        wanted = f"{place}: expected the weights of its teacher ({part})"
        if not isinstance(known.get("source"), str):
            raise InputError(f"{wanted} in a file, found a teacher that came from none.")
        source = Path(known["source"])
        if not source.is_file():
            raise InputError(f"{wanted} in {source}, found no such file.")
        models = [writes_tokens(model) or model for _, model in models_of(source)]
        teacher = next((each for each in models if digest(each) == known.get("digest")), None)
        if teacher is None:
            raise InputError(f"{wanted} in {source}, found others than it was trained with.")
        lent = teacher.get_submodule(str(known.get("place", "")))
        found |= {f"{part}.{name}": tensor for name, tensor in lent.state_dict().items()}
    return found


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
