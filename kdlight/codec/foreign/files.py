"""Codecs out of folders of transformers, and out of repositories of the Hugging Face hub."""

import re
from pathlib import Path
from typing import Any

import torch

from kdlight.codec.foreign.codec import CLASSES, TransformersCodec
from kdlight.codec.foreign.pieces import PiecewiseCodec
from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.storage.hub import hub_or_cache
from kdlight.storage.pretrained import one_sentence, whole

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
    model = _load(folder, config)
    with one_sentence(file, "settings of a codec"):
        codec = kind(model.config.to_dict())
        codec.model.load_state_dict(model.state_dict())
        _try(codec.eval())
    return codec


@torch.no_grad()
def _try(codec: TransformersCodec) -> None:
    """Code a moment of silence: some settings fail in use alone."""
    codec.decode(codec.encode(torch.zeros(1, 1, 2 * codec.hop_length)))


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if not is_repository(repository):
        raise InputError(f"{repository}: no such file or folder.")
    try:
        with hub_or_cache(repository):
            return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError, HfHubHTTPError):
        raise InputError(
            f"{repository}: no such file or folder, and no repository of that name could be "
            "fetched from the Hugging Face hub."
        ) from None


def _load(folder: Path, config: dict[str, Any]) -> Any:
    """The model with its weights."""
    import transformers  # takes seconds

    name = f"{CLASSES[config['model_type']]}Model"
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no safetensors weights; pickled weights are not read.")
    # transformers' own loader, because it renames the weights of older checkpoints.
    return whole(
        getattr(transformers, name),
        folder,
        f"the {name} that config.json describes",
        exact=True,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
    )
