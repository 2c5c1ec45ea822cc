"""A language model as a folder that transformers' ``from_pretrained`` loads."""

from pathlib import Path

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
from kdlight.storage.tokenizers import SubwordTokenizer, Tokenizer


def export_language_model(model: nn.Module, path: Path) -> None:
    """Write a model of transformers with what it has learnt, adapters merged.

    ``config.json``, ``model.safetensors`` and ``generation_config.json``; with the tokenizer, if
    the run's data had one of the ``tokenizers`` library, as ``tokenizer.json``.

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
        if isinstance(tokenizer, SubwordTokenizer):
            _write_tokenizer(tokenizer, folder)


def _write_tokenizer(tokenizer: SubwordTokenizer, folder: Path) -> None:
    from tokenizers import Tokenizer as Library
    from transformers import PreTrainedTokenizerFast

    said = spec_of(tokenizer)["init_args"]
    own = Library.from_str(said["definition"])
    PreTrainedTokenizerFast(tokenizer_object=own, eos_token=said["end"]).save_pretrained(folder)
