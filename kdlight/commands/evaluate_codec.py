"""``evaluate codec``: measure a codec of kdlight, or the audio that any other system made."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from kdlight.codec.codec import Codec, hash_of
from kdlight.commands.parsing.arguments import Parser, add_force, check_output, device, positive
from kdlight.commands.shared.codecs import CODEC, check_levels
from kdlight.errors import InputError
from kdlight.metrics.speech.catalogue import NAMES, WORD_METRICS, Sound, available
from kdlight.metrics.speech.evaluation import SpeechEvaluation, check_lengths, write_jsonl
from kdlight.metrics.speech.recognisers import KINDS, make_recogniser
from kdlight.metrics.speech.round_trip import RoundTrip
from kdlight.metrics.speech.words import NORMALISATIONS, normaliser_of
from kdlight.storage.audio import audio_info, find_audio, read_audio
from kdlight.storage.files import write_json
from kdlight.storage.text import read_lines
from kdlight.teachers.codec import load_codec

Row = dict[str, Any]


class Original(NamedTuple):
    """An original: its path below the folder without suffix, its file, its words if known."""

    name: str
    path: Path
    transcript: str | None


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
    made.add_argument("--reference", type=Path, required=True, help="folder of original audio")
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
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    made.add_argument(
        "--sample-rate",
        type=positive,
        default=None,
        help="Hz to compare --degraded at, default 16000; a checkpoint is compared at its own",
    )
    made.add_argument("--limit", type=positive, default=None, help="only so many files")
    made.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    made.add_argument("--jsonl", type=Path, default=None, help="write a line for each utterance")
    made.add_argument("--output", type=Path, default=None, help="write the rows as JSON")
    add_force(made)
    return made


def run(argv: Sequence[str]) -> None:
    """Run ``evaluate codec``."""
    options = parser().parse_args(argv)
    check_options(options)
    originals = originals_of(options)
    degraded = {} if options.degraded is None else degraded_of(options, originals)
    codec = (
        None if options.checkpoint is None else load_codec(str(options.checkpoint), options.model)
    )
    transcripts = options.transcripts is not None
    metrics = options.metrics or available(transcripts, options.recogniser is not None)
    words = set(metrics) & set(WORD_METRICS)
    listens = words or options.recogniser is not None
    recogniser = make_recogniser(options.recogniser, options.language) if listens else None
    normaliser = normaliser_of(options.normaliser, options.language)
    evaluation = SpeechEvaluation(metrics, recogniser, transcripts, normaliser)
    rows: list[Row] = []
    lines: list[Row] = []
    if codec is None:
        rate = options.sample_rate or 16_000
        for original in track(originals, "measuring", transient=True):
            heard, decoded = sound_of(original.path), sound_of(degraded[original.name])
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


def check_options(options: argparse.Namespace) -> None:
    """Complain about options that do not go together.

    Raises:
        InputError: They do not.
    """
    if options.output is not None:
        check_output(options.output, (".json",), [options.checkpoint], options.force)
    if options.jsonl is not None:
        if options.jsonl.suffix.lower() != ".jsonl":
            raise InputError(f"--jsonl {options.jsonl}: expected a name ending in .jsonl.")
        check_output(options.jsonl, (".jsonl",))
    for name, value in (("--n-q", options.n_q), ("--model", options.model)):
        if value is not None and options.checkpoint is None:
            raise InputError(f"{name}: expected a --checkpoint to encode with, found --degraded.")
    if options.sample_rate is not None and options.checkpoint is not None:
        raise InputError("--sample-rate: a checkpoint is compared at its own, found --checkpoint.")
    if options.metrics and "wer" in options.metrics and options.transcripts is None:
        raise InputError(
            "--metrics wer: expected --transcripts, found none; "
            "wer_reference compares with what the recogniser hears in the original."
        )


def by_name(folder: Path, option: str) -> dict[str, Path]:
    """Audio files of a folder by their path below it, without suffix.

    Raises:
        InputError: No such folder, no audio in it, or two files of one name.
    """
    found: dict[str, Path] = {}
    for path in find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{option} {folder}: expected one file called {name}, found two.")
        found[name] = path
    return found


def originals_of(options: argparse.Namespace) -> list[Original]:
    """The originals, sorted by name, with their transcripts.

    Raises:
        InputError: As :func:`by_name`, or an original has no transcript.
    """
    texts = None if options.transcripts is None else read_transcripts(options.transcripts)
    originals = []
    for name, path in list(by_name(options.reference, "--reference").items())[: options.limit]:
        text = None
        if texts is not None:
            text = texts.get(name, texts.get(path.stem))
            if text is None:
                raise InputError(f"{options.transcripts}: expected a line for {name}, found none.")
        originals.append(Original(name, path, text))
    return originals


def read_transcripts(path: Path) -> dict[str, str]:
    """Transcripts by utterance: a name or path without suffix, a tab, the text.

    Raises:
        InputError: The file is missing, no UTF-8, or a line has no tab.
    """
    texts = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, tab, text = line.partition("\t")
        if line.strip() and not tab:
            raise InputError(f"{path}: line {number}: expected a name, a tab and a text.")
        texts[name] = text
    return texts


def degraded_of(options: argparse.Namespace, originals: Sequence[Original]) -> dict[str, Path]:
    """The degraded files by the names of the originals.

    Raises:
        InputError: Names are missing, or there are others (unless ``--limit`` leaves some out), or
            a file is much longer or shorter than its original.
    """
    found = by_name(options.degraded, "--degraded")
    names = {original.name for original in originals}
    missing = sorted(names - set(found))
    extra = [] if options.limit else sorted(set(found) - names)
    if missing or extra:
        raise InputError(
            f"--degraded {options.degraded}: expected the names of --reference, found "
            f"{len(missing)} missing ({', '.join(missing[:2]) or 'none'}) and "
            f"{len(extra)} others ({', '.join(extra[:2]) or 'none'})."
        )
    for original in originals:
        path = found[original.name]
        first, second = audio_info(original.path), audio_info(path)
        seconds = first.frames / first.sample_rate, second.frames / second.sample_rate
        check_lengths(*seconds, name=str(path))
    return found


def sound_of(path: Path) -> Sound:
    """A file as it is: its recogniser hears it so, whatever rate two files are compared at."""
    return Sound(read_audio(path)[0], audio_info(path).sample_rate)


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
    originals: Sequence[Original],
    evaluation: SpeechEvaluation,
) -> Row:
    """Encode and decode all originals with ``n_q`` levels: one row."""
    trip = RoundTrip(codec, n_q, options.device)
    rate = codec.sample_rate
    for original in track(originals, f"{n_q} levels", transient=True):
        heard = sound_of(original.path)
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
