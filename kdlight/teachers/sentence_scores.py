"""Scores of passages for queries by teachers that make a vector of a text, asked once."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.teachers.text import TextTeacher

PART = 128
"""Texts of a file."""


def sentence_vectors(teacher: TextTeacher, texts: Sequence[str], folder: Path) -> Tensor:
    """A teacher's vectors of texts, of unit length, (N, D) float32.

    They lie in files of 128 texts, named by the hash of the teacher (weights, settings, tokenizer)
    and of those texts: another teacher or a changed text finds no file, and what was interrupted
    goes on where it was.

    Args:
        teacher: Who is asked.
        texts: Distinct texts.
        folder: Where the files lie.

    Raises:
        InputError: A file is damaged.
    """
    known = json.dumps(teacher.identity(), sort_keys=True)
    parts = [texts[start : start + PART] for start in range(0, len(texts), PART)]
    found = []
    for part in tqdm(parts, desc="Asking the teacher", delay=2, leave=False, disable=None):
        key = hashlib.sha256(json.dumps([known, list(part)]).encode()).hexdigest()
        path = folder / f"{key[:32]}.safetensors"
        if not path.is_file():
            vectors = teacher(list(part)).sentence.cpu()
            with atomic_path(path) as temporary:
                save_file({"vectors": vectors}, temporary)
        try:
            vectors = load_file(path)["vectors"]
        except (SafetensorError, OSError, KeyError):
            raise InputError(f"{path}: truncated or damaged: delete the file.") from None
        if vectors.shape != (len(part), teacher.width) or not bool(vectors.isfinite().all()):
            raise InputError(f"{path}: truncated or damaged: delete the file.")
        found.append(unit_length(vectors))
    return torch.cat(found)


def unit_length(vectors: Tensor) -> Tensor:
    """``vectors`` (N, D) at unit length."""
    unit: Tensor = torch.nn.functional.normalize(vectors, dim=1)
    return unit


def mean_scores(vectors: Sequence[Tensor], queries: Tensor, passages: Tensor) -> Tensor:
    """Mean over teachers of the cosine of texts, of the shape of ``queries``.

    Args:
        vectors: Unit vectors (N, D) of all texts, a tensor a teacher.
        queries: Number of a text, any shape.
        passages: Number of a text, of that shape.
    """
    each = [(own[queries] * own[passages]).sum(dim=-1) for own in vectors]
    return torch.stack(each).mean(dim=0)
