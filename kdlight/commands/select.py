"""``select``: which rows or texts to train on, out of what ``score`` wrote."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    check_output,
    refuse_idle,
    seed,
)
from kdlight.errors import InputError
from kdlight.selection.difference import difference, drawn, softened, top
from kdlight.selection.files import digest_of_texts, is_replaceable, read_scores, write_selection
from kdlight.selection.robust import robust_law, without_replacement
from kdlight.storage.atomic import atomic_path
from kdlight.storage.documents import read_documents
from kdlight.storage.files import sha256_of

NEEDS = {
    "difference": ("teacher_nll", "reference_nll"),
    "likelihood": ("teacher_nll",),
    "margin": ("student_margin",),
    "robust": ("student_margin",),
    "random": (),
}
"""The columns that each way of choosing reads."""


USED_BY = {
    "beta": ("difference",),
    "wrong": ("robust",),
    "per_token": ("difference", "likelihood"),
}
"""The ways of choosing that an option is for."""


def parser() -> Parser:
    """The options of ``select``."""
    made = Parser(
        "select",
        "Choose rows by their scores: difference keeps what the teacher likes more than the "
        "reference does (MiniPLM); likelihood what the teacher likes; margin what the student is "
        "least sure of; robust draws by the law that is best against a teacher that is sometimes "
        "wrong (Robust Active Distillation); random is the control of all.",
        "select runs/selections/scores.jsonl --by difference --keep 0.5 "
        "--output runs/selections/difference.json",
    )
    made.add_argument("scores", type=Path, help="what `score` wrote")
    made.add_argument("--by", choices=tuple(NEEDS), default="difference", help="how to choose")
    made.add_argument("--keep", type=share, default=0.5, help="share of the rows that stay")
    made.add_argument(
        "--beta",
        type=above,
        default=None,
        help="with difference: draw rows with the weight exp(score / beta) instead of cutting",
    )
    made.add_argument(
        "--wrong",
        type=share,
        default=0.1,
        help="with robust: share of the rows that the teacher gets wrong",
    )
    made.add_argument(
        "--per-token",
        action="store_true",
        help="divide nats by tokens, so that long rows are not favoured",
    )
    made.add_argument(
        "--without-label",
        action="store_true",
        help="of images: choose among those that have no label yet",
    )
    made.add_argument("--seed", type=seed, default=0, help="seed of what is drawn")
    made.add_argument(
        "--output",
        type=Path,
        required=True,
        help="a selection (.json) for datamodules.text.selected.SelectedDataModule or "
        "datamodules.images.queried.QueriedDataModule, or the chosen texts themselves (.jsonl) "
        "with a description beside them",
    )
    add_force(made)
    return made


def share(text: str) -> float:
    """A share above 0 and up to 1."""
    return _number(text, lambda value: 0 < value <= 1, "a share above 0 and up to 1")


def above(text: str) -> float:
    """A number above 0."""
    return _number(text, lambda value: 0 < value < float("inf"), "a number above 0")


def _number(text: str, fits: Any, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected {wanted}, found {text!r}")
    return value


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``select``."""
    known = parser()
    options, typed = known.parse_args(argv), known.typed(argv)
    for name, ways in USED_BY.items():
        if options.by not in ways:
            refuse_idle(typed, (name,), f"--by {' or '.join(ways)}", options.by)
    check_output(options.output, (".json", ".jsonl"), [options.scores], options.force)
    beside = options.output.with_suffix(".json")
    if options.output.suffix == ".jsonl" and not options.force and not is_replaceable(beside):
        raise InputError(
            f"--output {options.output}: its description would replace {beside}, which is no "
            "selection; --force replaces it."
        )
    facts, columns = read_scores(options.scores)
    if facts["kind"] == "texts":  # which the output would replace
        check_output(options.output, (".json", ".jsonl"), [Path(facts["data"])], options.force)
    for needed in NEEDS[options.by]:
        if needed not in columns:
            role = needed.partition("_")[0]
            raise InputError(
                f"--by {options.by}: expected scores of a --{role} in {options.scores}, found none."
            )
    place = _places(options, columns)
    scores, rows = chosen(options, {name: values[place] for name, values in columns.items()})
    rows = place[rows]
    how = {
        "by": options.by,
        "keep": options.keep,
        "beta": options.beta,
        "seed": options.seed,
        "models": facts["models"],
        "of": facts["data"],
    }
    if options.output.suffix == ".jsonl":
        _write_texts(options, facts, rows, scores)
        how["texts_sha256"] = sha256_of(options.output)
        write_selection(beside, rows.tolist(), facts["digest"], how)
    else:
        write_selection(options.output, rows.tolist(), facts["digest"], how)
    said, tokens = f"{len(rows)} of {facts['count']} rows", columns["tokens"]
    of_tokens = f", {int(tokens[rows].sum())} of {int(tokens.sum())} tokens"
    print(said if facts.get("kind") == "images" else said + of_tokens)
    print(options.output)


def _places(options: argparse.Namespace, columns: dict[str, Tensor]) -> Tensor:
    """Numbers of the rows that may be chosen."""
    if not options.without_label:
        return torch.arange(len(columns["tokens"]))
    if "label" not in columns:
        raise InputError(f"--without-label: expected scores of images in {options.scores}.")
    free = torch.nonzero(columns["label"] < 0)[:, 0]
    if not len(free):
        raise InputError(f"--without-label: every image in {options.scores} has a label.")
    return free


def chosen(options: argparse.Namespace, columns: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The score of every row, and the rows that stay, in order."""
    count = len(columns["tokens"])
    kept = max(1, round(options.keep * count))
    generator = torch.Generator().manual_seed(options.seed)
    size = columns["tokens"].clamp(min=1) if options.per_token else torch.ones(count)
    if options.by == "difference":
        scores = difference(columns["teacher_nll"], columns["reference_nll"]) / size
        if options.beta is not None:
            return scores, drawn(softened(scores, options.beta), kept, generator)
        return scores, top(scores, options.keep)
    if options.by == "likelihood":
        scores = -columns["teacher_nll"] / size
        return scores, top(scores, options.keep)
    if options.by == "random":
        scores = torch.rand(count, generator=generator, dtype=torch.float64)
        return scores, top(scores, options.keep)
    gains = 1 - columns["student_margin"]
    if options.by == "margin":
        return gains, top(gains, options.keep)
    law = robust_law(gains, min(round(options.wrong * count), count - 1))
    return gains, without_replacement(law.probabilities, kept, generator)


def _write_texts(
    options: argparse.Namespace, facts: dict[str, Any], rows: Tensor, scores: Tensor
) -> None:
    if facts.get("kind") != "texts":
        raise InputError(
            f"--output {options.output}: expected a name that ends in .json, as {facts['data']} "
            "are no texts."
        )
    texts = [each.text for each in read_documents(Path(facts["data"]), lines=True)]
    if digest_of_texts(texts) != facts["digest"]:
        raise InputError(
            f"{facts['data']}: expected the texts that were scored, found others; score them again."
        )
    with atomic_path(options.output) as temporary:
        lines = [
            json.dumps({"text": texts[row], "row": row, "score": float(scores[row])})
            for row in rows.tolist()
        ]
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
