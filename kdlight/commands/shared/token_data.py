"""The token data that a verb reads: a configuration's, or texts."""

from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from kdlight.commands.parsing.building import reason_of
from kdlight.errors import InputError
from kdlight.storage.text import read_text
from kdlight.storage.tokenizers import Tokenizer
from kdlight.storage.yaml_text import load_yaml

CONFIGURATIONS = (".yaml", ".yml")


def configured_data(path: Path, model: Any) -> Any:
    """The data module of a configuration.

    Args:
        path: The configuration.
        model: Has the vocabulary and the length that the data are to have.

    Raises:
        InputError: It has no data, they cannot be built, or they are of another vocabulary or
            length than the model's.
    """
    from datamodules.text.base import TokenDataModule

    data = built_data(path, TokenDataModule)
    for size in ("vocabulary", "length"):
        expected, found = getattr(model, size), getattr(data, size)
        if found != expected:
            raise InputError(
                f"{path}: data: expected the {size} of the model, {expected}, found {found}."
            )
    return data


def built_data(path: Path, base: type) -> Any:
    """The data module of a configuration.

    Args:
        path: The configuration.
        base: Of what kind it is to be.

    Raises:
        InputError: It has no data, or they cannot be built.
    """
    try:
        node = load_yaml(read_text(path))["data"]
    except (yaml.YAMLError, KeyError, TypeError):
        raise InputError(f"{path}: expected YAML with a section called data.") from None
    made = jsonargparse.ArgumentParser(exit_on_error=False)
    made.add_subclass_arguments(base, "data")
    try:
        return made.instantiate_classes(made.parse_object({"data": node})).data
    except Exception as error:
        reason = reason_of(error)
        if reason is None and isinstance(error, jsonargparse.ArgumentError):
            reason = f"expected a class_path of {base.__name__} and its init_args."
        if reason is None:
            raise
        raise InputError(f"{path}: data: {reason}") from None


def read_data(option: str, path: Path, model: Any, tokenizer: Tokenizer | None) -> Any:
    """The data module of a configuration, or of texts cut into rows of the model's length.

    Args:
        option: What names the path, for the complaint.
        path: A ``.yaml``, or a file or folder of texts.
        model: Has a vocabulary and a length.
        tokenizer: Of the model; None where its tokens are no text.

    Raises:
        InputError: It is none of these, the tokenizer has more tokens than the model, or the texts
            are fewer tokens than a row.
    """
    from datamodules.text.text_files import TextFilesDataModule

    if path.suffix in CONFIGURATIONS:
        return configured_data(path, model)
    if not path.exists():
        raise InputError(f"{option}: {path}: no such file or folder.")
    if tokenizer is None:
        raise InputError(
            f"{option}: expected a configuration (.yaml), as the model has no tokenizer, found "
            f"{path}."
        )
    if tokenizer.size > model.vocabulary:
        raise InputError(
            f"{option}: expected a tokenizer of at most the model's {model.vocabulary} tokens, "
            f"found {tokenizer.size}."
        )
    found = TextFilesDataModule(str(path), tokenizer, model.length)
    try:
        _ = found.parts
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{option}: {path}: {reason}") from None
    return found
