"""A language model as a folder that transformers' ``from_pretrained`` loads."""

from pathlib import Path
from typing import Any

from torch import nn

from kdlight.core.spec import spec_of
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.classifier import TextClassifier
from kdlight.networks.text.encoder import TransformerEncoder
from kdlight.networks.text.masked_lm import MaskedLM
from kdlight.networks.text.pretrained import CausalLM
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.tokenizers import (
    UNKNOWN,
    ByteTokenizer,
    CharacterTokenizer,
    SubwordTokenizer,
    Tokenizer,
)

END = "<|end|>"
"""The word that ends a text of bytes or characters."""


def export_language_model(model: nn.Module, path: Path) -> None:
    """Write a model of transformers with what it has learnt, adapters merged.

    ``config.json``, ``model.safetensors`` and ``generation_config.json``; with the tokenizer of the
    run's data as ``tokenizer.json``: one of the ``tokenizers`` library, bytes or characters.

    Args:
        model: A generator of text, the model in it, a classifier of texts, or an encoder.
        path: Folder; an earlier export there is replaced as a whole.

    Raises:
        InputError: It is no model of transformers.
    """
    tokenizer: Tokenizer | None = getattr(model, "tokenizer", None)
    if isinstance(model, (TextGenerator, TokenGenerator)):
        model = model.denoiser
    network = model if isinstance(model, TransformerEncoder) else getattr(model, "network", model)
    if not isinstance(network, (CausalLM, MaskedLM, TextClassifier, TransformerEncoder)):
        raise InputError(
            f"{path}: expected a model of transformers to write, found "
            f"{type(model).__name__}; a .safetensors file takes any model of kdlight."
        )
    with atomic_folder(path, "config.json") as folder:
        network.whole().save_pretrained(folder)  # type: ignore[operator]
        if tokenizer is not None:
            _write_tokenizer(tokenizer, folder)


def written_for_transformers(tokenizer: Tokenizer) -> tuple[Any, str | None] | None:
    """The same tokenizer of the ``tokenizers`` library, and its word that ends a text.

    Bytes and characters keep their numbers; what a character vocabulary lacks stays unknown.

    Args:
        tokenizer: Of the run's data.

    Returns:
        None where the library has no such tokenizer: numbers, hashed words.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    if isinstance(tokenizer, SubwordTokenizer):
        said = spec_of(tokenizer)["init_args"]
        return Library.from_str(said["definition"]), said["end"]
    if isinstance(tokenizer, ByteTokenizer):
        made = Library(models.BPE({letter: byte for byte, letter in _byte_letters()}, []))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.decoder = decoders.ByteLevel()
    elif isinstance(tokenizer, CharacterTokenizer):
        letters = [*spec_of(tokenizer)["init_args"]["alphabet"], UNKNOWN]
        words = {letter: number for number, letter in enumerate(letters)}
        made = Library(models.WordLevel(words, unk_token=UNKNOWN))
        made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        made.decoder = decoders.Fuse()
    else:
        return None
    made.add_special_tokens([END])
    return made, END


def _byte_letters() -> list[tuple[int, str]]:
    """What the library writes for each byte: itself where it is visible, else a letter above 255.

    The table of GPT-2's tokenizer, which ``ByteLevel`` follows.
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [(byte, chr(byte)) for byte in visible] + [
        (byte, chr(256 + number)) for number, byte in enumerate(hidden)
    ]


def _write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    found = written_for_transformers(tokenizer)
    if found is not None:
        made, end = found
        PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end).save_pretrained(folder)
