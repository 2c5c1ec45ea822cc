"""Hooks of the site: a page of options for every verb, out of the parsers, so none can drift."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kdlight.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "reference/options"
KINDS = {"evaluate": ("images", "statistics", "captions", "codec", "language")}

FOLDED = ("fit", "validate", "test", "predict")
"""Verbs whose short help leaves options out."""


def help_of(*words: str) -> str:
    """What ``python -m kdlight WORDS``, words that ask for help, prints, 100 characters wide.

    Raises:
        RuntimeError: The command failed.
    """
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-m", "kdlight", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shown.returncode:
        raise RuntimeError(f"kdlight {' '.join(words)}: {shown.stderr}")
    return shown.stdout.replace(str(ROOT) + "/", "").rstrip()


def page(verb: str) -> str:
    """The page of one verb, in Markdown."""
    sentence = VERBS[verb][1]
    parts = [f"# kdlight {verb}\n\n{sentence[0].upper()}{sentence[1:]}.\n"]
    for kind in KINDS.get(verb, ("",)):
        words = [verb, *([kind] if kind else []), "--help_all" if verb in FOLDED else "--help"]
        parts.append(f"```text\n$ python -m kdlight {' '.join(words)}\n{help_of(*words)}\n```\n")
    return "\n".join(parts)


def on_config(config: Any) -> Any:
    """List the pages under ``Options``, and tutorials and guides that mkdocs.yml does not name."""
    pages = [{verb: f"{FOLDER}/{verb}.md"} for verb in VERBS]
    named = str(config.nav)
    for section in config.nav:
        for title, entries in section.items():
            if title in ("Tutorials", "Guides"):
                found = sorted((ROOT / "docs" / title.lower()).glob("*.md"))
                unnamed = [f"{title.lower()}/{path.name}" for path in found]
                entries += [path for path in unnamed if path not in named]
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict) and "Options" in entry:
                    entry["Options"] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    with ThreadPoolExecutor(2) as pool:
        for verb, text in zip(VERBS, pool.map(page, VERBS), strict=True):
            files.append(File.generated(config, f"{FOLDER}/{verb}.md", content=text))
    return files
