"""Codecs out of folders of transformers, and out of repositories of the Hugging Face hub."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from kdlight.codec.foreign.codec import CLASSES, TransformersCodec
from kdlight.codec.foreign.pieces import PiecewiseCodec
from kdlight.errors import InputError
from kdlight.storage.files import read_json

# What transformers raises for files that are missing, cut short or do not fit together.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
ENDINGS = (".ckpt", ".safetensors", ".pt", ".pth", ".th", ".bin")
"""Of files of models; no repository is taken for one."""


def is_repository(name: str) -> bool:
    """Whether a name can only be that of a hub repository: ``owner/name``, and no path here."""
    owner = name.partition("/")[0]
    fits = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not name.endswith(ENDINGS)
    return bool(fits) and not Path(name).exists() and not Path(owner).exists()


def read_transformers(name: str) -> TransformersCodec:
    """A codec of a folder that ``save_pretrained`` wrote, or of a hub repository.

    Weights are read from safetensors only, and no code of the model's author is run.

    Args:
        name: The folder, or the id of a repository, such as ``kyutai/mimi``.

    Raises:
        InputError: There is none, it is damaged, or it is no codec that kdlight knows.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _download(name)
    file = folder / "config.json"
    config = read_json(file)
    in_pieces = isinstance(config, dict) and config.get("chunk_length_s") is not None
    kind = PiecewiseCodec if in_pieces else TransformersCodec
    try:
        kind.check(config)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    model, found = _load(folder, config)
    missing, foreign = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing or foreign:
        raise InputError(
            f"{folder}: weights do not fit the model: "
            f"{len(missing)} missing ({', '.join(missing[:2]) or 'none'}), "
            f"{len(foreign)} unexpected ({', '.join(foreign[:2]) or 'none'})."
        )
    codec = kind(model.config.to_dict())
    codec.model.load_state_dict(model.state_dict())
    return codec.eval()


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if not is_repository(repository):
        raise InputError(f"{repository}: no such file or folder.")
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError, HfHubHTTPError):
        raise InputError(
            f"{repository}: no such file or folder, and no repository of that name could be "
            "fetched from the Hugging Face hub."
        ) from None


def _load(folder: Path, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model with its weights, and what transformers found of them."""
    import transformers  # takes seconds

    kind = getattr(transformers, f"{CLASSES[config['model_type']]}Model")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no safetensors weights; pickled weights are not read.")
    try:
        with quiet():
            # transformers' own loader, because it renames the weights of older checkpoints.
            found: tuple[Any, dict[str, Any]] = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            return found
    except DAMAGE:
        raise InputError(f"{folder}: the weights are damaged or do not fit config.json.") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and warnings of transformers: what is wrong is an error in one sentence here."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
