"""``evaluate codec``: measure a codec of kdlight, or the audio that any other system made."""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from kdlight.codec.codec import Codec, hash_of
from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    check_output,
    inputs_of,
    positive,
    refuse_idle,
)
from kdlight.commands.shared.codecs import CODEC, add_codec_model, check_levels
from kdlight.commands.shared.originals import degraded_of, originals_of, sound_of
from kdlight.errors import InputError
from kdlight.metrics.speech.catalogue import NAMES, WORD_METRICS, available
from kdlight.metrics.speech.evaluation import SpeechEvaluation, write_jsonl
from kdlight.metrics.speech.recognisers import KINDS, make_recogniser
from kdlight.metrics.speech.round_trip import RoundTrip
from kdlight.metrics.speech.words import NORMALISATIONS, normaliser_of
from kdlight.storage.files import write_json
from kdlight.storage.segments import NamedSegment, Segment
from kdlight.teachers.codec import load_codec

Row = dict[str, Any]


def parser() -> Parser:
    """The options of ``evaluate codec``."""
    made = Parser(
        "evaluate codec",
        "Measure what a codec makes of speech: a checkpoint of kdlight, or files of any system "
        "that bear the names of the originals.",
        "evaluate codec --checkpoint runs/codec/version_0/checkpoints/last.ckpt "
        "--reference speech/test --n-q 1 2 4 8 --output figures.json\n"
        "  python -m kdlight evaluate codec --reference speech/test --degraded other/test "
        "--transcripts transcripts.tsv --metrics pesq_wb stoi wer --jsonl rows.jsonl",
    )
    made.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="folder of original audio, or a manifest (.csv, .tsv, .jsonl) with audio, and if "
        "wanted start and end in seconds, id and transcript; channels are mixed into one",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--degraded", type=Path, help="folder of the same names, of any system")
    what.add_argument("--checkpoint", "--codec", type=Path, help=CODEC)
    made.add_argument("--transcripts", type=Path, help="lines of utterance, tab, text")
    made.add_argument(
        "--metrics",
        nargs="+",
        default=None,
        help=f"some of {', '.join(NAMES)}; default: all whose packages are installed",
    )
    made.add_argument("--recogniser", default=None, help=f"who listens for wer: {KINDS}")
    made.add_argument(
        "--language",
        default="en",
        help="code of what is said, for the recogniser (default en); others than English need one "
        "of many languages",
    )
    made.add_argument(
        "--normaliser",
        choices=tuple(NORMALISATIONS),
        default=None,
        help="what texts go through before words and letters are compared: Whisper's for English "
        "or for other languages, or nothing; default: by the language",
    )
    made.add_argument("--n-q", type=positive, nargs="+", default=None, help="levels, a row each")
    add_codec_model(made)
    made.add_argument(
        "--sample-rate",
        type=positive,
        default=None,
        help="Hz to compare --degraded at, default 16000; a checkpoint is compared at its own",
    )
    made.add_argument("--limit", type=positive, default=None, help="only so many files")
    add_device(made)
    made.add_argument("--jsonl", type=Path, default=None, help="write a line for each utterance")
    made.add_argument("--output", type=Path, default=None, help="write the rows as JSON")
    add_force(made)
    return made


def run(argv: Sequence[str]) -> None:
    """Run ``evaluate codec``."""
    known = parser()
    options, typed = known.parse_args(argv), known.typed(argv)
    check_options(options)
    if options.metrics is not None and "wer" not in options.metrics:
        refuse_idle(typed, ("transcripts",), "wer among --metrics")
    if options.metrics is not None and not set(options.metrics) & set(WORD_METRICS):
        _refuse_listening(typed)
    originals = originals_of(options)
    degraded = {} if options.degraded is None else degraded_of(options, originals)
    segments = [*(each.segment for each in originals), *map(Segment, degraded.values())]
    if mixed := sum(each.info().channels > 1 for each in segments):
        warnings.warn(
            f"{mixed} of {len(segments)} files have several channels; their mean is measured.",
            stacklevel=2,
        )
    codec = (
        None if options.checkpoint is None else load_codec(str(options.checkpoint), options.model)
    )
    transcripts = all(original.transcript is not None for original in originals)
    if options.metrics and "wer" in options.metrics and not transcripts:
        raise InputError(
            "--metrics wer: expected --transcripts, or a manifest that has them, found none; "
            "wer_reference compares with what the recogniser hears in the original."
        )
    metrics = options.metrics or available(transcripts, options.recogniser is not None)
    words = set(metrics) & set(WORD_METRICS)
    if not words:
        _refuse_listening(typed)
    recogniser = make_recogniser(options.recogniser, options.language) if words else None
    normaliser = normaliser_of(options.normaliser, options.language)
    evaluation = SpeechEvaluation(metrics, recogniser, transcripts, normaliser)
    rows: list[Row] = []
    lines: list[Row] = []
    if codec is None:
        rate = options.sample_rate or 16_000
        for original in track(originals, "measuring", transient=True):
            heard = sound_of(original.segment)
            decoded = sound_of(Segment(degraded[original.name]))
            evaluation.update(
                original.name,
                heard.at(rate),
                decoded.at(rate),
                rate,
                original.transcript,
                heard,
                decoded,
            )
        rows.append(summed(evaluation, {"model": options.degraded.name, "sample_rate": rate}))
        lines += [{"model": options.degraded.name, **row} for row in evaluation.rows]
    else:
        name = options.model or options.checkpoint.stem
        for n_q in levels_of(options, codec):
            evaluation.reset()
            rows.append({"model": name} | measured(options, codec, n_q, originals, evaluation))
            lines += [{"model": name, "n_q": n_q, **row} for row in evaluation.rows]
    print_rows(rows, evaluation)
    if options.jsonl is not None:
        write_jsonl(options.jsonl, lines)
        print(options.jsonl)
    if options.output is not None:
        write_json(options.output, rows)
        print(options.output)


def _refuse_listening(typed: frozenset[str]) -> None:
    """Refuse what says how words are heard and compared, where none are."""
    wanted = f"a metric of words ({', '.join(WORD_METRICS)}), and for the default a recogniser"
    refuse_idle(typed, ("language", "recogniser", "normaliser"), wanted)


def check_options(options: argparse.Namespace) -> None:
    """Complain about options that do not go together.

    Raises:
        InputError: They do not.
    """
    if options.output is not None:
        check_output(options.output, (".json",), inputs_of(options), options.force)
    if options.jsonl is not None:
        if options.jsonl.suffix.lower() != ".jsonl":
            raise InputError(f"--jsonl {options.jsonl}: expected a name ending in .jsonl.")
        check_output(options.jsonl, (".jsonl",), inputs_of(options), options.force, "--jsonl")
    for name, value in (("--n-q", options.n_q), ("--model", options.model)):
        if value is not None and options.checkpoint is None:
            raise InputError(f"{name}: expected a --checkpoint to encode with, found --degraded.")
    if options.sample_rate is not None and options.checkpoint is not None:
        raise InputError("--sample-rate: a checkpoint is compared at its own, found --checkpoint.")


def levels_of(options: argparse.Namespace, codec: Codec) -> list[int]:
    """The numbers of levels to measure, rising.

    Raises:
        InputError: The codec has fewer.
    """
    levels = sorted(set(options.n_q or [codec.n_q]))
    check_levels(codec, levels[-1])
    return levels


def measured(
    options: argparse.Namespace,
    codec: Codec,
    n_q: int,
    originals: Sequence[NamedSegment],
    evaluation: SpeechEvaluation,
) -> Row:
    """Encode and decode all originals with ``n_q`` levels: one row."""
    trip = RoundTrip(codec, n_q, options.device)
    rate = codec.sample_rate
    for original in track(originals, f"{n_q} levels", transient=True):
        heard = sound_of(original.segment)
        reference = heard.at(rate)
        decoded = trip(reference)
        evaluation.update(original.name, reference, decoded, rate, original.transcript, heard)
    return summed(evaluation, trip.row() | {"sha256": hash_of(codec, options.checkpoint)})


def summed(evaluation: SpeechEvaluation, row: Row) -> Row:
    """``row`` with the means of all figures, the corpus rates of words, and what is behind them."""
    summary = evaluation.summary()
    figures = {figure: found.get("corpus", found["mean"]) for figure, found in summary.items()}
    return {
        **row,
        "utterances": len(evaluation.rows),
        "seconds": sum(float(found["seconds"]) for found in evaluation.rows),
        **figures,
        "summary": summary,
        "provenance": evaluation.provenance(),
    }


def print_rows(rows: Sequence[Row], evaluation: SpeechEvaluation) -> None:
    """A table: a line for each figure, a column for each row, with intervals and NaN counts."""
    table = Table(title=f"{rows[0]['utterances']} utterances, {rows[0]['seconds']:.0f} s")
    table.add_column("figure")
    for row in rows:
        levels = f", n_q {row['n_q']}" if "n_q" in row else ""
        table.add_column(escape(f"{row['model']}{levels}"), justify="right")
    for figure in evaluation.figures:
        table.add_row(figure, *(_cell(row["summary"][figure]) for row in rows))
    for name in ("bitrate", "entropy_bitrate_total", "usage", "perplexity", "expired", "match"):
        if name in rows[0]:
            table.add_row(name, *(_mean(row[name]) for row in rows))
    for name in ("rtf_encode_cpu", "rtf_decode_cpu"):
        if name in rows[0]:
            table.add_row(name, *(f"{row[name]:.3g}" for row in rows))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def _cell(found: dict[str, float | int]) -> str:
    """A figure with its interval, and how many utterances have none."""
    pooled = ("corpus", "corpus_low", "corpus_high")
    names = pooled if "corpus" in found else ("mean", "low", "high")
    value, low, high = (found[name] for name in names)
    missing = f", {found['nan']} NaN" if found["nan"] else ""
    # Brackets would be styles to rich.
    return escape(f"{value:.4g} [{low:.4g}, {high:.4g}]{missing}")


def _mean(value: float | list[float]) -> str:
    """A number, or the mean over levels."""
    return f"{sum(value) / len(value) if isinstance(value, list) else value:.4g}"
