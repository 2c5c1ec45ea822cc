"""``python -m tests.fuzz --seed 0 --cases 400``: a table of cases, passes and misses."""

import argparse
import collections
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import Case, drawn
from tests.fuzz.corpus import make, preload
from tests.fuzz.judge import fault, tree
from tests.fuzz.process import LIMIT, run


def main() -> int:
    """Run the cases and print the table. Returns 1 if there is a miss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--only", default="", help="cases whose verb and description hold this")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which one hangs")
    parser.add_argument("--verbose", action="store_true", help="say how every case ended")
    options = parser.parse_args()
    preload()
    ran: collections.Counter[str] = collections.Counter()
    missed: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="kdlight_fuzz_") as name:
        place = Path(name)
        place.chmod(0o755)
        root = place / "corpus"
        root.mkdir()
        make(root)
        for number, case in enumerate(drawn(root, options.seed, options.cases)):
            if options.only not in f"{case.verb} {case.what}":
                continue
            found = tried(case, place / f"case_{number}", options.limit, options.verbose)
            ran[case.verb] += 1
            missed[case.verb] += found is not None
    print("| verb | cases | passes | misses |\n|---|---:|---:|---:|")
    for verb in sorted(ran):
        print(f"| `{verb}` | {ran[verb]} | {ran[verb] - missed[verb]} | {missed[verb]} |")
    total, wrong = ran.total(), missed.total()
    print(f"| all | {total} | {total - wrong} | {wrong} |")
    return int(wrong > 0)


def tried(case: Case, folder: Path, limit: float, verbose: bool) -> str | None:
    """Run a case in a new folder and say what was wrong with its end, if anything."""
    folder.mkdir()
    folder.chmod(0o777)
    words = case.make(folder)
    before = tree(folder)
    outcome = run(words, folder, limit, unprivileged=case.unprivileged, largest=case.largest)
    found = fault(case.verb, outcome, before, folder, case.largest is not None)
    if found is not None or verbose:
        said = " | ".join(outcome.err.strip().splitlines())[:600]
        mark = "ok" if found is None else f"MISS {found}"
        print(f"{mark}: {case.verb} [{case.what}] {outcome.code} {outcome.seconds:.1f}s: {said}",
              file=sys.stderr, flush=True)  # fmt: skip
    shutil.rmtree(folder)
    for stream in folder.parent.glob(f"{folder.name}.*"):
        stream.unlink()
    return found


if __name__ == "__main__":
    sys.exit(main())
