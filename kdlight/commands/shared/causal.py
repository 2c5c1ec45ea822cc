"""Causal language models that a verb reads: of kdlight, or a folder of transformers."""

from pathlib import Path
from typing import Literal

import torch

from kdlight.commands.shared.writing import load_writer
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import causal_lm
from kdlight.storage.tokenizers import FileTokenizer, NumberTokenizer, Tokenizer


def read_causal(
    checkpoint: Path, length: int, model: str | None = None
) -> tuple[AutoregressiveModel, Tokenizer | None]:
    """A model that writes from left to right, and its tokenizer where its tokens are text.

    Args:
        checkpoint: Checkpoint, ``.safetensors`` model, or folder of transformers.
        length: Tokens of a row, for a folder.
        model: Which model of the checkpoint.

    Raises:
        InputError: There is no such model.
    """
    if checkpoint.is_dir():
        found = causal_lm(str(checkpoint), length, dtype=stored(checkpoint))
        try:
            return found, FileTokenizer(str(checkpoint))
        except InputError:
            return found, None
    writer = load_writer(checkpoint, model)
    causal = writer.generator.denoiser
    if not isinstance(causal, AutoregressiveModel):
        raise InputError(
            f"{checkpoint}: expected a model that writes from left to right, found "
            f"{type(causal).__name__}."
        )
    named = writer.tokenizer
    return causal, None if isinstance(named, NumberTokenizer) else named


def read_writer(checkpoint: Path, length: int, model: str | None = None) -> TextGenerator:
    """A model that writes tokens, of kdlight or out of a folder of transformers.

    Logits of a folder's model beyond its tokenizer, which fill a matrix up, are cut.

    Raises:
        InputError: There is no such model, or a folder without a tokenizer.
    """
    if not checkpoint.is_dir():
        return load_writer(checkpoint, model)
    tokenizer = FileTokenizer(str(checkpoint))
    dtype = stored(checkpoint)
    causal = causal_lm(str(checkpoint), length, vocabulary=tokenizer.size, dtype=dtype)
    return TextGenerator(AutoregressiveGenerator(causal), tokenizer.portable()).eval()


def stored(folder: Path) -> Literal["float32", "bfloat16"]:
    """The precision that a folder of transformers says its weights have."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(folder).dtype
    except Exception:  # whatever is wrong with it is said by who loads the weights
        return "float32"
    return "bfloat16" if found is torch.bfloat16 else "float32"
