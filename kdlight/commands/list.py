"""``list``: what there is, a sentence each."""

import ast
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kdlight.commands.parsing.arguments import Parser
from kdlight.errors import InputError
from kdlight.storage.files import read_json

ROOT = Path(__file__).resolve().parents[2]


WIDTH = 100


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``list``. Reads files only; nothing is imported."""
    parser = Parser(
        "list",
        "Methods, data sets, configurations and bundled models, a line each; a word keeps the "
        "lines that hold it.",
        "list configs digits",
    )
    kinds = {"methods": methods, "data": data_modules, "configs": configs, "models": models}
    parser.add_argument("kind", nargs="?", choices=list(kinds), help="default: an overview")
    parser.add_argument("word", nargs="?", default="", help="keep the lines that hold this word")
    options = parser.parse_args(argv)
    if options.kind is None:
        overview()
        return
    found = [
        line
        for line in kinds[options.kind]()
        if options.word.lower() in f"{line[0]} {line[1]}".lower()
    ]
    if not found:
        raise InputError(f"list {options.kind}: expected a line with {options.word!r}, found none.")
    print_lines(found)


def print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """A name and a sentence a line, cut at the width of a screen."""
    lines = list(lines)
    column = max(len(name) for name, _ in lines)
    for name, sentence in lines:
        room = max(20, WIDTH - column - 4)
        cut = sentence if len(sentence) <= room else f"{sentence[: room - 3].rstrip()}..."
        print(f"  {name:<{column}}  {cut}")


def overview() -> None:
    """Everything in one screen: methods, folders of configurations, bundled models."""
    named: dict[str, list[str]] = {}
    for path, _ in methods():
        _, domain, *_, name = path.split(".")
        named.setdefault(domain, []).append(name)
    for domain, names in named.items():
        print(f"methods of {domain} (what they are: list methods {domain})")
        print_names(names)
    folders = Counter(str(Path(path).parent) for path, _ in configs())
    print("configurations (list configs WORD)")
    print_names(f"{folder} {count}" for folder, count in folders.items())
    print("bundled models (list models)")
    print_lines(models())


def print_names(names: Iterable[str]) -> None:
    """Names with commas between, as wide as a screen; none is broken."""
    joined = ", ".join(name.replace(" ", "\0") for name in names)
    text = textwrap.fill(joined, WIDTH, initial_indent="  ", subsequent_indent="  ")
    print(text.replace("\0", " "))


def methods() -> Iterator[tuple[str, str]]:
    """Class path of every method and the first line of its file; bases end in ``Module``."""
    return (line for line in _classes("modules") if not line[0].endswith("Module"))


def data_modules() -> Iterator[tuple[str, str]]:
    """Class path of every data module and the first line of its file."""
    known = _classes("datamodules")
    return (line for line in known if line[0].endswith("DataModule") and ".base." not in line[0])


def _classes(package: str) -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in tree.body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if "Protocol" not in map(ast.unparse, node.bases):
                yield f"{module}.{node.name}", (ast.get_docstring(tree) or "").partition("\n")[0]


def configs() -> Iterator[tuple[str, str]]:
    """Every configuration and its first comment."""
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield str(path.relative_to(ROOT)), first.lstrip("# ")


def models() -> Iterator[tuple[str, str]]:
    """Every bundled model and what its card says of it."""
    for path in sorted((ROOT / "kdlight" / "assets").glob("*.safetensors")):
        notes = read_json(path.with_suffix(".json")).get("notes", {})
        yield path.stem, str(notes.get("summary", ""))
