"""Reading and writing models, checkpoints and JSON without pickle."""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdlight import __version__
from kdlight.core.hints import called
from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.json_text import parse_json

FORMAT = "kdlight-model-1"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; a NaN or an infinity becomes null."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(_finite(value), indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )


def _finite(value: Any) -> Any:
    """``value`` with null for the numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def read_json(path: Path, infinite: bool = False) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        infinite: Whether it may hold infinities, as the schedulers of diffusers do.

    Raises:
        InputError: The file is missing or is not JSON, a NaN or an infinity included, or has a key
            twice.
    """
    require_file(path)
    try:
        return parse_json(path.read_bytes(), infinite)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def require_file(path: Path) -> None:
    """Raise :class:`InputError` unless ``path`` is a file that may be read."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder{_inside(path)}.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: expected a file, found a pipe or a device.")
    if not path.is_file():
        what = "a link to nothing" if path.is_symlink() else "no such file"
        raise InputError(f"{path}: {what}{_not_trained(path)}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read.")


def is_there(path: Path) -> bool:
    """Whether a file that may be absent is there.

    Raises:
        InputError: Something else has its name, or it cannot be read: it would be passed over.
    """
    if not os.path.lexists(path):
        return False
    require_file(path)
    return True


def _inside(folder: Path) -> str:
    """The checkpoint of a run's folder, for who named the folder instead."""
    found = [folder / "checkpoints/last.ckpt", *folder.glob("version_*/checkpoints/last.ckpt")]
    newest = max(filter(Path.is_file, found), key=lambda each: each.stat().st_mtime, default=None)
    return "" if newest is None else f"; did you mean {newest}"


def _not_trained(path: Path) -> str:
    """What to do about the checkpoint of a run that is not there, such as a teacher's."""
    if path.suffix != ".ckpt" or path.parent.name != "checkpoints" or len(path.parts) < 4:
        return ""
    run = path.parents[2]
    return "" if run.is_dir() else f"; train the configuration with `name: {run.name}` first"


def sha256_of(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_all(paths: Sequence[Path]) -> str:
    """SHA-256 of a model's files: of the only one, or of the digests of several in order."""
    digests = [sha256_of(path) for path in paths]
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    return digests[0] if len(digests) == 1 else joined


def save_model(
    module: nn.Module, path: Path, notes: dict[str, Any] | None = None, half: bool = False
) -> None:
    """Write a recorded module as ``path`` (safetensors) and its spec beside it (JSON).

    Args:
        module: A module whose spec :func:`kdlight.core.spec.spec_of` can write.
        path: Where; the suffix must be ``.safetensors``.
        notes: Free facts about the model (data, seed, metrics), kept in the JSON.
        half: Whether floating-point weights are stored as float16; :func:`load_model` gives them
            back in the network's own precision, rounded.

    Raises:
        InputError: The suffix is another, or a weight is too large for float16.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected a name that ends in .safetensors.")
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    if half:
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    description = {
        "format": FORMAT,
        "kdlight": __version__,
        "spec": spec_of(module),
        "notes": notes or {},
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
        description["weights_sha256"] = sha256_of(temporary)
    write_json(path.with_suffix(".json"), description)


def _halved(name: str, tensor: Tensor) -> Tensor:
    """``tensor`` as float16 if it holds floating-point numbers."""
    if not tensor.is_floating_point():
        return tensor
    rounded = tensor.half()
    if not torch.equal(rounded.isfinite(), tensor.isfinite()):
        largest = float(tensor.abs().max())
        raise InputError(f"{name}: expected weights within 65504 for float16, found {largest:g}.")
    return rounded


def load_model(path: Path) -> nn.Module:
    """Rebuild what :func:`save_model` wrote, in evaluation mode.

    Raises:
        InputError: A file is missing, truncated, foreign, or its weights do not fit its spec.
    """
    require_file(path)
    description = read_json(path.with_suffix(".json"))
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path.with_suffix('.json')}: expected format {FORMAT}.")
    if not isinstance(description.get("spec"), dict) or "class_path" not in description["spec"]:
        raise InputError(f"{path.with_suffix('.json')}: expected a spec with a class_path.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        raise InputError(f"{path}: truncated, or not a safetensors file.") from None
    written = description.get("weights_sha256")  # since 0.2.0
    if written is not None and written != sha256_of(path):
        raise InputError(
            f"{path}: damaged, or not the weights that {path.with_suffix('.json').name} describes."
        )
    try:
        module = build(description["spec"])
    except InputError as error:
        raise InputError(f"{path.with_suffix('.json')}: {error}") from None
    load_weights(module, tensors, str(path))
    return module.eval()  # type: ignore[no-any-return]


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load ``tensors`` strictly, with one sentence if they do not fit.

    Raises:
        InputError: Names or shapes differ.
    """
    expected = module.state_dict()
    for name, tensor in tensors.items():
        known = expected.get(name)
        # torch would drop imaginary parts and make numbers of truth values without a word.
        if isinstance(known, Tensor) and isinstance(tensor, Tensor):
            same = known.is_floating_point() == tensor.is_floating_point()
            if not same or tensor.is_complex() or tensor.layout != torch.strided:
                raise InputError(
                    f"{source}: weight {name}: expected {kind_of(known)}, found {kind_of(tensor)}."
                )
    for name in expected.keys() & tensors.keys():
        if isinstance(expected[name], Tensor) and not isinstance(tensors[name], Tensor):
            found = called(tensors[name])
            raise InputError(f"{source}: weight {name}: expected a tensor, found {found}.")
        if isinstance(tensors[name], Tensor) and bool(tensors[name].isnan().any()):
            raise InputError(f"{source}: weight {name}: expected numbers, found a NaN.")
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        missing = sorted(set(expected) - set(tensors))
        foreign = sorted(set(tensors) - set(expected))
        if missing or foreign:
            raise InputError(
                f"{source}: weights do not fit the model: "
                f"{len(missing)} missing ({', '.join(missing[:2]) or 'none'}), "
                f"{len(foreign)} unexpected ({', '.join(foreign[:2]) or 'none'})."
            ) from None
        name = next(
            key
            for key in expected
            if isinstance(expected[key], Tensor) and expected[key].shape != tensors[key].shape
        )
        raise InputError(
            f"{source}: weight {name}: expected shape {tuple(expected[name].shape)}, "
            f"found {tuple(tensors[name].shape)}."
        ) from None


def kind_of(tensor: Tensor) -> str:
    """What numbers a tensor holds: "float32", "sparse complex64"."""
    layout = "" if tensor.layout == torch.strided else "sparse "
    return f"{layout}{str(tensor.dtype).removeprefix('torch.')}"


def load_tensors(path: Path) -> dict[Any, Any]:
    """A foreign ``.safetensors`` file or PyTorch checkpoint, tensors and plain values only.

    Raises:
        InputError: The file is missing, damaged, or holds objects, or no mapping.
    """
    require_file(path)
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError):
        raise InputError(f"{path}: truncated, or not a safetensors file.") from None
    except Exception:  # torch raises a different type for every way a file can be damaged
        raise InputError(
            f"{path}: expected a checkpoint of tensors, found a damaged file or pickled objects."
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected weights by name, found {called(found)}.")
    return found


def check_records(path: Path) -> None:
    """Verify the checksums that torch stores with every record of a file.

    torch itself reads a record whose bytes have changed since.

    Raises:
        InputError: A record is damaged. A file of another form is let pass.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception:  # as many types as there are ways to damage an archive
        raise InputError(f"{path}: truncated, or not a checkpoint of kdlight.") from None
    if damaged is not None:
        raise InputError(f"{path}: damaged: record {damaged} has changed since it was written.")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a Lightning checkpoint, tensors and plain values only.

    Raises:
        InputError: The file is missing, truncated, or holds pickled objects.
    """
    require_file(path)
    check_records(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises a different type for every way a file can be damaged
        raise InputError(f"{path}: truncated, or not a checkpoint of kdlight.") from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{path}: expected a checkpoint of kdlight, found something else.")
    for name, value in checkpoint["state_dict"].items():
        if not isinstance(value, Tensor) and not str(name).endswith("_extra_state"):
            raise InputError(f"{path}: weight {name}: expected a tensor, found {called(value)}.")
    return checkpoint
