"""The option ``--draft`` of ``generate``: what proposes tokens to a model that verifies them."""

import argparse
import warnings
from pathlib import Path
from typing import Any

from kdlight.commands.parsing.arguments import check_output, inputs_of, positive
from kdlight.commands.shared.causal import read_causal
from kdlight.discrete.autoregressive import AutoregressiveModel, NextTokenModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.networks.text.feature_draft import FeatureDraft
from kdlight.networks.text.feature_drafter import FeatureDrafter
from kdlight.speculative.drafters import Drafter, LookupDrafter, ModelDrafter, NoDrafter
from kdlight.speculative.trigram import TrigramDrafter
from kdlight.speculative.writing import DraftedGenerator
from kdlight.storage.documents import read_documents
from kdlight.storage.files import is_there, read_json, write_json
from kdlight.storage.tokenizers import Reading, identity_of
from kdlight.teachers.checkpoint import models_of

TABLE = "kdlight-trigrams-1"
WITHOUT_MODEL = ("none", "lookup", "trigram")
OF_DRAFTS = ("draft_block", "draft_texts", "draft_table")


def add_draft(to: argparse.ArgumentParser) -> None:
    """The options of drafts."""
    to.add_argument(
        "--draft",
        default=None,
        metavar="WHAT",
        help="write row by row, every token computed once, with a draft that the model verifies: a "
        "smaller model (checkpoint, .safetensors, folder of transformers), trigram (a table that "
        "learns while it writes), lookup (what followed the last tokens before), or none to "
        "compare with; the law of what is written stays the model's",
    )
    to.add_argument("--draft-block", type=positive, default=4, help="tokens a draft model proposes")
    to.add_argument(
        "--draft-texts",
        type=Path,
        default=None,
        metavar="PATH",
        help="texts that the table of --draft trigram begins with",
    )
    to.add_argument(
        "--draft-table",
        type=Path,
        default=None,
        metavar="FILE",
        help="file (.json) of the table of --draft trigram: read if it is there, and written with "
        "what was learnt",
    )
    to.add_argument(
        "--temperature",
        type=temperature,
        default=1.0,
        help="divides the logits, with --draft; 0 takes the likeliest token",
    )


def temperature(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, found {text}")
    return value


def drafted(writer: TextGenerator, options: argparse.Namespace) -> DraftedGenerator:
    """The generator of a writer, with the draft that the options name.

    Raises:
        InputError: The writer does not write from left to right, there is no such draft, or the two
            have other tokens.
    """
    target = writer.generator.denoiser
    if not isinstance(target, NextTokenModel):
        raise InputError(
            f"--draft: expected a model that writes from left to right, found "
            f"{type(target).__name__}."
        )
    for name in ("draft_texts", "draft_table"):
        if getattr(options, name) is not None and options.draft != "trigram":
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: expected --draft trigram, found {options.draft}.")
    drafter = _drafter(writer, options)
    return DraftedGenerator(target, drafter, options.temperature, writer.tokenizer.end)


def _drafter(writer: TextGenerator, options: argparse.Namespace) -> Drafter:
    if options.draft == "none":
        return NoDrafter()
    if options.draft == "lookup":
        return LookupDrafter()
    if options.draft == "trigram":
        table = TrigramDrafter()
        if options.draft_texts is not None:
            documents = read_documents(options.draft_texts)
            reading = Reading(writer.tokenizer)
            table.read(reading.encode(each.text) for each in documents)
            if lacking := reading.lacking():
                warnings.warn(f"--draft-texts {options.draft_texts}: {lacking}", stacklevel=2)
        if options.draft_table is not None:
            check_output(
                options.draft_table, (".json",), inputs_of(options), option="--draft-table"
            )
            if is_there(options.draft_table):
                table.load(_table(options.draft_table, writer.generator.vocabulary))
        return table
    path = Path(options.draft)
    if not path.exists():
        known = ", ".join(WITHOUT_MODEL)
        raise InputError(f"--draft: expected {known}, or a model, found no {path}.")
    if path.is_file() and isinstance(found := models_of(path)[0][1], FeatureDraft):
        target = writer.generator.denoiser
        if not isinstance(target, AutoregressiveModel):
            raise InputError(f"--draft: {path} is made for another model.")
        draft = found.to(options.device).eval()
        return FeatureDrafter(target, draft, options.draft_block, options.temperature)
    model, tokenizer = read_causal(path, writer.generator.length)
    vocabulary = writer.generator.vocabulary
    if tokenizer is not None and identity_of(tokenizer) != identity_of(writer.tokenizer):
        raise InputError("--draft: expected a model with the same tokenizer, found another.")
    if model.vocabulary != vocabulary:
        raise InputError(
            f"--draft: expected the model's vocabulary of {vocabulary} tokens, found "
            f"{model.vocabulary}."
        )
    return ModelDrafter(model.to(options.device).eval(), options.draft_block, options.temperature)


def _table(path: Path, vocabulary: int) -> list[list[Any]]:
    """The rows of a table that :func:`keep_table` wrote."""
    said = read_json(path)
    if not isinstance(said, dict) or said.get("format") != TABLE:
        raise InputError(f"--draft-table {path}: expected a table that --draft-table wrote.")
    if said.get("vocabulary") != vocabulary:
        raise InputError(
            f"--draft-table {path}: expected a table of {vocabulary} tokens, found one of "
            f"{said.get('vocabulary')!r}."
        )
    rows = said.get("rows")
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        places = row[:3] if isinstance(row, list) and len(row) == 4 else [None]
        known = all(type(each) is int and 0 <= each < vocabulary for each in places)
        if not known or type(row[3]) not in (int, float) or not row[3] > 0:
            raise InputError(
                f"--draft-table {path}: rows.{number}: expected three tokens and a weight above 0, "
                f"found {str(row)[:60]}."
            )
    return list(said["rows"])


def keep_table(path: Path, generator: DraftedGenerator) -> None:
    """Write what a table has learnt, for the next run."""
    if isinstance(generator.drafter, TrigramDrafter):
        rows = generator.drafter.state()
        write_json(path, {"format": TABLE, "vocabulary": generator.vocabulary, "rows": rows})
