"""Models that speak by way of a codec's codes."""

from pathlib import Path
from typing import TypeVar

from torch import nn

from kdlight.errors import InputError
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.networks.speech.token_talker import TokenTalker
from kdlight.teachers.checkpoint import models_of
from kdlight.teachers.codec import load_codec

Kind = TypeVar("Kind", bound=nn.Module)


def writer_of(path: str, model: str | None = None) -> SemanticWriter:
    """The T2S model of a file.

    Args:
        path: Checkpoint of a run, or an exported ``.safetensors`` model.
        model: Which model of the file; None takes the first.

    Raises:
        InputError: The file is missing or damaged, or holds none.
    """
    return _of(path, SemanticWriter, "a model of text to codes", model)


def token_talker(semantic: str, acoustic: str, codec: str, model: str | None = None) -> TokenTalker:
    """T2S, A2S and their codec, in evaluation mode.

    Args:
        semantic: File of the T2S model.
        acoustic: File of the A2S model.
        codec: The codec, as :func:`~kdlight.teachers.codec.load_codec` takes it.
        model: Which T2S model of its file; None takes the first.

    Raises:
        InputError: A file is missing or damaged, holds another model, or they do not belong
            together.
    """
    writer = writer_of(semantic, model)
    filler = _of(acoustic, AcousticFiller, "a model of the other levels of codes", None)
    return TokenTalker(writer, filler, load_codec(codec)).eval()


def _of(path: str, kind: type[Kind], what: str, model: str | None) -> Kind:
    models = models_of(Path(path))
    found = [each for name, each in models if isinstance(each, kind) and model in (None, name)]
    if not found:
        kinds = ", ".join(f"{name}, a {type(each).__name__}" for name, each in models)
        raise InputError(f"{path}: expected {what}, found {kinds}.")
    return found[0]
