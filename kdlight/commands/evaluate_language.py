"""``evaluate language``: a model that writes, by likelihood, by its samples, by their cost."""

import argparse
import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from kdlight.callbacks.language.token_rows import Row, heldout_figures, token_row
from kdlight.callbacks.language.tokens_report import HEADLINE
from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    check_output,
    device,
    inputs_of,
    positive,
    refuse_idle,
    seed,
    step_count,
)
from kdlight.commands.shared.token_data import configured_data
from kdlight.commands.shared.writing import (
    STEPS,
    add_sampler,
    check_steps,
    load_writer,
    with_sampler,
)
from kdlight.core.memory import check_fits
from kdlight.discrete.samplers import TokenSample
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.report.table import summary_table
from kdlight.storage.documents import read_documents
from kdlight.storage.files import write_json
from kdlight.storage.tokenizers import Reading
from kdlight.teachers.language_judge import LanguageJudge

SHOWN = (*HEADLINE[:-1], "generative_perplexity", "distinct_2", "ms_per_sample")

OF_A_MODEL = ("model", "config", "steps", "sampler", "num_samples", "draws", "seed", "batch_size")
"""Options that say how a model writes and is measured; texts are taken as they are."""


ENOUGH_DRAWS = 4
DRAWS = f"draws of the masks of a masked model's bound (default: {ENOUGH_DRAWS})"


def parser() -> Parser:
    """The options of ``evaluate language``."""
    made = Parser(
        "evaluate language",
        "Measure a model that writes text or tokens: held-out likelihood (exact from left to "
        "right, an upper bound of a masked model), samples over network calls, their likelihood "
        "under another model beside their entropy, and time.",
        "evaluate language --checkpoint "
        "runs/characters_masked_diffusion/version_0/checkpoints/last.ckpt "
        "--steps 64 16 4 1 --sampler first_hitting ancestral --output figures.json",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="checkpoint or .safetensors model")
    what.add_argument(
        "--samples",
        type=Path,
        help="texts of any program: .txt (a text a line), .jsonl with a `text` in each, or a "
        "folder; needs --judge",
    )
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    made.add_argument(
        "--config",
        type=Path,
        default=None,
        help="configuration whose data are held out; default: the run's own",
    )
    made.add_argument("--steps", type=step_count, nargs="+", default=[None], help=STEPS)
    add_sampler(made, nargs="+", default=[None])
    made.add_argument("--num-samples", type=positive, default=1000, help="how many")
    made.add_argument("--draws", type=positive, default=None, help=DRAWS)
    made.add_argument(
        "--judge",
        default=None,
        help="for generative perplexity: a model of text that reads from left to right, of kdlight "
        "(a file) or transformers (a folder, a hub id)",
    )
    made.add_argument("--seed", type=seed, default=1234, help="seed of the samples")
    made.add_argument("--batch-size", type=positive, default=250, help="samples at once")
    made.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    made.add_argument("--output", type=Path, default=None, help="write the rows as JSON")
    add_force(made)
    return made


def run(argv: Sequence[str]) -> None:
    """Run ``evaluate language``."""
    known = parser()
    options = known.parse_args(argv)
    if options.samples is not None:
        found = "texts that are written already (--samples)"
        refuse_idle(known.typed(argv), OF_A_MODEL, "a --checkpoint to write with", found)
    if options.output is not None:
        check_output(options.output, (".json",), inputs_of(options), options.force)
    if options.samples is not None and options.judge is None:
        raise InputError("--samples: expected a --judge to measure them, found none.")
    judge = None if options.judge is None else LanguageJudge(options.judge).to(options.device)
    rows = evaluated(options, judge) if options.checkpoint else [judged(options.samples, judge)]
    shown = [{key: row[key] for key in SHOWN if key in row} for row in rows]
    if len(options.sampler) > 1:  # which row is whose
        shown = [
            {**kept, "model": row.get("algorithm", kept["model"])}
            for kept, row in zip(shown, rows, strict=True)
        ]
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(summary_table(shown))
    if options.output is not None:
        write_json(options.output, rows)
        print(options.output)


def judged(path: Path, judge: LanguageJudge | None) -> Row:
    """The row of texts of any program."""
    assert judge is not None
    texts = [each.text for each in read_documents(path, lines=True)]
    reading = Reading(judge.tokenizer)
    tokens = [reading.encode(text) for text in texts]
    if lacking := reading.lacking():
        warnings.warn(f"{path}: --judge {judge.name}: {lacking}", stacklevel=2)
    joined = torch.tensor([token for text in tokens for token in text], dtype=torch.int64)
    counts = torch.bincount(joined)
    law = counts / counts.sum()
    pairs = [list(itertools.pairwise(text)) for text in tokens]
    distinct = [len(set(each)) / len(each) for each in pairs if each]
    return {
        "model": path.stem,
        "samples": len(texts),
        **_generative(*judge.nll(texts)),
        "entropy": float(-torch.xlogy(law, law).sum()),
        "distinct_2": sum(distinct) / max(len(distinct), 1),
        "judge": judge.name,
    }


def evaluated(options: argparse.Namespace, judge: LanguageJudge | None) -> list[Row]:
    """A row for each sampler and number of steps."""
    writer = load_writer(options.checkpoint, options.model).to(options.device)
    own = writer.generator
    check_steps(own, "--steps", options.steps != [None])
    if options.draws is not None and own.algorithm == "autoregressive":
        raise InputError("--draws: expected none of a model whose likelihood is exact.")
    walks = [
        (with_sampler(own, sampler), steps or own.steps[0])
        for sampler in options.sampler
        for steps in options.steps
    ]
    check_fits("--num-samples", options.num_samples, (own.length,))
    data = data_of(options, writer)
    known: Row = {}
    if own.has_likelihood:
        known |= heldout_figures(
            own.denoiser,
            data.parts[1],
            options.batch_size,
            options.device,
            options.draws or ENOUGH_DRAWS,
        )
    rows = []
    for generator, steps in track(walks, "walks", transient=True):
        texts: list[str] = []

        def keep(sample: TokenSample, texts: list[str] = texts) -> None:
            texts += [writer.text(row) for row in sample.tokens.cpu()]

        row = token_row(
            options.checkpoint.stem if options.model is None else options.model,
            generator,
            steps,
            data.judges(),
            options.num_samples,
            options.batch_size,
            options.seed,
            options.device,
            keep if judge is not None else lambda sample: None,
        )
        if judge is not None:
            row |= _generative(*judge.nll(texts)) | {"judge": judge.name}
        rows.append(row | known)
    return rows


def _generative(total: float, count: int) -> dict[str, float]:
    nll = total / count if count else math.nan
    return {"generative_nll": nll, "generative_perplexity": math.exp(nll)}


def data_of(options: argparse.Namespace, writer: TextGenerator) -> Any:
    """The data of a configuration, or of the run whose checkpoint is measured.

    Raises:
        InputError: There is no configuration, its data cannot be built, or they are of another
            vocabulary or length than the model's.
    """
    path = options.config or options.checkpoint.parent.parent / "config.yaml"
    if not path.is_file():
        raise InputError(
            f"--config: expected a configuration with data to hold out, as beside a run's "
            f"checkpoint, found no {path}."
        )
    return configured_data(path, writer.generator)
