"""Run every recipe for some steps, a part of ``make gpu``."""

import argparse
import json
from pathlib import Path

from tests.gpu.recipes import names, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64, help="At most so many images a step.")
    parser.add_argument("--accelerator", default="gpu")
    parser.add_argument("--precision", default=None)
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu"))
    parser.add_argument("recipes", nargs="*", help="Below configs; all if none.")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in given.recipes or names():
        row = rows[name] = run(
            name, given.folder, given.steps, given.batch_size, given.accelerator, given.precision
        )
        if "failed" in row:
            print(f"{name:<44} FAILED {row['failed']}", flush=True)
            continue
        memory = "-" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}"
        print(
            f"{name:<44}{row['seconds_per_step'] * 1e3:9.1f} ms a step"
            f"{row['images_per_second']:10.1f} images/s{memory:>8} GiB",
            flush=True,
        )
    path = given.folder / "gpu.json"
    path.write_text(json.dumps(rows, indent=1))
    print(path)


if __name__ == "__main__":
    main()
