"""``score``: what models say of every row of a data set, into a file that ``select`` reads."""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    check_output,
    inputs_of,
    positive,
    refuse_idle,
)
from kdlight.commands.shared.causal import read_causal
from kdlight.commands.shared.image_data import image_rows, names_images, read_classifier
from kdlight.commands.shared.token_data import CONFIGURATIONS, configured_data
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.selection.files import ScoreWriter, digest_of_texts, digest_of_tokens
from kdlight.selection.scores import row_scores
from kdlight.storage.documents import read_documents
from kdlight.storage.files import sha256_of, sha256_of_all
from kdlight.storage.tokenizers import Reading, Tokenizer

ROLES = ("teacher", "reference", "student")
Rows = Iterator[list[dict[str, float]]]
Read = dict[str, tuple[AutoregressiveModel, Tokenizer | None]]


def parser() -> Parser:
    """The options of ``score``."""
    made = Parser(
        "score",
        "Score every row of a data set under one or more models: nats, and how sure they are. The "
        "training rows of a configuration (.yaml), or its training images under classifiers, or "
        "texts, each as its models' own tokenizers read it. A run that was stopped goes on where "
        "it was, with the same command.",
        "score configs/oracle/miniplm_teacher.yaml "
        "--teacher runs/oracle_miniplm_teacher/version_0/checkpoints/last.ckpt "
        "--reference runs/oracle_miniplm_reference/version_0/checkpoints/last.ckpt "
        "--output runs/selections/scores.jsonl",
    )
    made.add_argument("data", type=Path, help="configuration (.yaml), or texts: .jsonl, .txt, ...")
    for role, what in zip(
        ROLES, ("likes what is good", "has seen a random part", "is to learn"), strict=True
    ):
        made.add_argument(
            f"--{role}",
            type=Path,
            default=None,
            metavar="MODEL",
            help=f"the model that {what}: checkpoint, .safetensors or folder of transformers",
        )
    made.add_argument(
        "--length", type=positive, default=512, help="tokens a folder's model reads at once"
    )
    made.add_argument("--batch-size", type=positive, default=64, help="rows at once")
    add_device(made)
    made.add_argument("--output", type=Path, required=True, help="file of the scores, .jsonl")
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``score``."""
    known = parser()
    options = known.parse_args(argv)
    paths = {role: getattr(options, role) for role in ROLES if getattr(options, role) is not None}
    if not paths:
        raise InputError("score: expected at least one of --teacher, --reference, --student.")
    if not any(path.is_dir() for path in paths.values()):
        refuse_idle(known.typed(argv), ("length",), "a folder of transformers")
    images = options.data.suffix in CONFIGURATIONS and names_images(options.data)
    check_output(options.output, (".jsonl",), inputs_of(options), options.force)
    facts, rows = _of_images(options, paths) if images else _of_language(options, paths)
    facts["models"] = {
        role: {"path": str(path), "sha256": _hash(path)} for role, path in paths.items()
    }
    with ScoreWriter(options.output, facts) as writer:
        count = facts["count"] - writer.done
        if writer.done:
            print(f"{writer.done} of {facts['count']} rows were scored before")
        parts = range(-(-count // options.batch_size))
        made = rows(writer.done)
        for _ in track(parts, "scoring", transient=True):
            writer.add(next(made))
    print(options.output)


def _of_images(
    options: argparse.Namespace, paths: dict[str, Path]
) -> tuple[dict[str, Any], Callable[[int], Rows]]:
    """Facts of the training images of a configuration, and their scores from an image on."""
    models = {role: read_classifier(path).to(options.device) for role, path in paths.items()}
    return image_rows(options, models)


def _of_language(
    options: argparse.Namespace, paths: dict[str, Path]
) -> tuple[dict[str, Any], Callable[[int], Rows]]:
    """Facts of rows or texts, and their scores from one on."""
    models = {role: read_causal(path, options.length) for role, path in paths.items()}
    for model, _ in models.values():
        model.to(options.device).eval()
    configured = options.data.suffix in CONFIGURATIONS
    return (_of_rows if configured else _of_texts)(options, models)


def _of_rows(
    options: argparse.Namespace, models: Read
) -> tuple[dict[str, Any], Callable[[int], Rows]]:
    """Facts of the training rows of a configuration, and their scores from a row on."""
    (first, _), *others = models.values()
    data = configured_data(options.data, first)
    for model, _ in others:
        if (model.vocabulary, model.length) != (first.vocabulary, first.length):
            raise InputError(
                f"score: expected models of the same {first.vocabulary} tokens and length "
                f"{first.length}, found {model.vocabulary} and {model.length}."
            )
    part = data.parts[0]
    tokens, lengths = part["tokens"], part["lengths"]

    def rows(start: int) -> Rows:
        for at in range(start, len(tokens), options.batch_size):
            some = tokens[at : at + options.batch_size].long().to(options.device)
            size = lengths[at : at + options.batch_size].to(options.device)
            real = torch.arange(some.shape[1], device=some.device) < size[:, None]
            columns: dict[str, list[float]] = {"tokens": size.tolist()}
            for role, (model, _) in models.items():
                nll, margin = row_scores(model, some, real)
                columns |= {f"{role}_nll": nll.tolist(), f"{role}_margin": margin.tolist()}
            yield [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]

    facts = {"data": str(options.data), "kind": "rows", "digest": digest_of_tokens(tokens, lengths)}
    return facts | {"count": len(tokens)}, rows


def _of_texts(
    options: argparse.Namespace, models: Read
) -> tuple[dict[str, Any], Callable[[int], Rows]]:
    """Facts of texts, and their scores from a text on."""
    for role, (_, tokenizer) in models.items():
        if tokenizer is None:
            raise InputError(f"--{role}: expected a model of text, found one without a tokenizer.")
    texts = [each.text for each in read_documents(options.data, lines=True)]
    for role, (_, tokenizer) in models.items():
        assert tokenizer is not None
        reading = Reading(tokenizer)
        for text in texts:  # once more than needed, to say it before the work
            reading.encode(text)
        if lacking := reading.lacking():
            warnings.warn(f"{options.data}: --{role}: {lacking}", stacklevel=2)

    def rows(start: int) -> Rows:
        for at in range(start, len(texts), options.batch_size):
            yield [
                _text_scores(text, models, options) for text in texts[at : at + options.batch_size]
            ]

    facts = {"data": str(options.data), "kind": "texts", "digest": digest_of_texts(texts)}
    return facts | {"count": len(texts)}, rows


def _text_scores(text: str, models: Read, options: argparse.Namespace) -> dict[str, float]:
    """Of one text, in pieces where it is longer than a model reads; tokens are the last model's."""
    found: dict[str, float] = {}
    for role, (model, tokenizer) in models.items():
        assert tokenizer is not None
        nll, margin, count = 0.0, 0.0, 0
        tokens = tokenizer.encode(text)
        for at in range(0, len(tokens), model.length):
            piece = torch.tensor([tokens[at : at + model.length]], device=options.device)
            scores = row_scores(model, piece, torch.ones_like(piece, dtype=torch.bool))
            nll += float(scores.nll)
            margin += float(scores.margin) * piece.numel()
            count += piece.numel()
        found |= {f"{role}_nll": nll, f"{role}_margin": margin / max(1, count)}
        found["tokens"] = float(count)
    return found


def _hash(path: Path) -> str:
    if path.is_file():
        return sha256_of(path)
    return sha256_of_all([*sorted(path.glob("*.safetensors")), path / "config.json"])
