"""``report``: one HTML page over one run or many, and the verdicts."""

from collections.abc import Sequence
from pathlib import Path

from kdlight.commands.parsing.arguments import Parser, add_force, check_output, positive
from kdlight.errors import InputError
from kdlight.report.page import write_report
from kdlight.report.reach import compare_reach, reach_lines
from kdlight.report.runs import load_runs
from kdlight.report.verdict import HEADLINES, compare_runs, verdict_lines
from kdlight.storage.files import write_json
from kdlight.storage.json_text import parse_json

ONE, SEVERAL = "report.html", "comparison.html"
# What every page and every comparison of this verb holds, and hardly another file.
PAGE_MARK = b'<script type="application/json" id="data">'
COMPARISON_KEYS = {"metric", "baseline", "rows", "verdicts"}


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``report``."""
    parser = Parser(
        "report",
        "Write one self-contained HTML page. Runs of the same name are seeds of one arm; with "
        "--baseline every other arm is judged against that one.",
        "report runs/quickstart/version_* --output report.html",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help=f"default: {ONE} beside the run, {SEVERAL} beside the first of several",
    )
    parser.add_argument(
        "--baseline",
        default=None,
        help="the arm (name of runs) that all others are judged against; without it the page shows "
        "the runs and judges nothing",
    )
    parser.add_argument(
        "--metric",
        default=None,
        help="figure of the verdicts, by its name in summary.json; one that no run has is answered "
        f"with those that they have (default: the first that is there of {', '.join(HEADLINES)})",
    )
    parser.add_argument(
        "--model",
        default="student",
        help="model of the verdicts: student, teacher, codec, ...; what learnt without a teacher "
        "stands beside students",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=None,
        help="steps of the verdicts (default: every number that an arm shares with the baseline)",
    )
    parser.add_argument(
        "--reach",
        choices=("iterations", "updates"),
        default=None,
        help="also judge in how many iterations, or updates of the student, an arm is as good as "
        "the baseline at its end",
    )
    parser.add_argument("--json", type=Path, default=None, help="write rows and verdicts as JSON")
    add_force(parser)
    options = parser.parse_args(argv)
    output = options.output or options.runs[0] / (ONE if len(options.runs) == 1 else SEVERAL)
    check_output(output, (".html",), force=options.force)
    if options.json is not None:
        check_output(options.json, (".json",), force=options.force, option="--json")
    if not options.force:
        _check_replaced(output, options.json)
    question = (options.baseline, options.metric, options.model, options.steps)
    loaded = load_runs(options.runs)
    comparison = compare_runs(loaded, *question)
    lines = verdict_lines(comparison)
    if options.reach is not None:
        comparison["reach"] = compare_reach(loaded, comparison, options.reach)
        lines += reach_lines(comparison["reach"])
    path = write_report(options.runs, output, *question, options.reach)
    for line in lines:
        print(line)
    if options.json is not None:
        write_json(options.json, comparison)
    print(path)


def _check_replaced(page: Path, comparison: Path | None) -> None:
    """Refuse to replace what this verb did not write.

    Raises:
        InputError: One of the files is there and is no earlier report, or no earlier comparison.
    """
    if page.is_file() and PAGE_MARK not in page.read_bytes():
        raise InputError(
            f"--output {page}: expected a new file or an earlier report, found another file; "
            "--force replaces it."
        )
    if comparison is not None and comparison.is_file() and not _is_comparison(comparison):
        raise InputError(
            f"--json {comparison}: expected a new file or an earlier comparison, found another "
            "file; --force replaces it."
        )


def _is_comparison(path: Path) -> bool:
    try:
        found = parse_json(path.read_bytes(), any_number=True)
    except InputError:
        return False
    return isinstance(found, dict) and found.keys() >= COMPARISON_KEYS
