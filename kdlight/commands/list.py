"""``list``: what there is, a sentence each."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdlight.commands.parsing.arguments import Parser
from kdlight.storage.files import read_json

ROOT = Path(__file__).resolve().parents[2]


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``list``. Reads files only; nothing is imported."""
    parser = Parser("list", "Methods, configurations and bundled models.", "list methods")
    kinds = {"methods": methods, "configs": configs, "models": models}
    parser.add_argument("kind", nargs="?", choices=list(kinds), help="default: everything")
    chosen = parser.parse_args(argv).kind
    for kind, lines in kinds.items():
        if chosen not in (None, kind):
            continue
        if chosen is None:
            print(f"{kind}:")
        for name, sentence in lines():
            print(f"  {name}\n      {sentence}")
        if chosen is None:
            print()


def methods() -> Iterator[tuple[str, str]]:
    """Class path of every method and the first line of its file."""
    for path in sorted((ROOT / "modules").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [
            node.name
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in names:
            yield f"{module}.{name}", (ast.get_docstring(tree) or "").partition("\n")[0]


def configs() -> Iterator[tuple[str, str]]:
    """Every configuration and its first comment."""
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield str(path.relative_to(ROOT)), first.lstrip("# ")


def models() -> Iterator[tuple[str, str]]:
    """Every bundled model and what its card says of it."""
    for path in sorted((ROOT / "kdlight" / "assets").glob("*.json")):
        yield path.stem, str(read_json(path).get("notes", {}).get("summary", ""))
