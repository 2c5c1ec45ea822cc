"""A file imports only from the layers below its own (the order of the design)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up; within a group any order. The longest name that fits a module counts.
LAYERS = [
    ["kdlight.errors", "kdlight.stops", "kdlight.warned", "kdlight.core", "kdlight.storage"],
    ["kdlight.diffusion", "kdlight.codec", "kdlight.discrete", "kdlight.speculative"],
    ["kdlight.networks"],
    ["kdlight.losses", "kdlight.surgery", "kdlight.selection"],
    ["kdlight.metrics", "kdlight.teachers", "kdlight.guidance"],
    ["kdlight.training", "kdlight.export", "kdlight.convert", "kdlight.report"],
    ["kdlight.callbacks"],
    ["modules", "datamodules"],
    ["kdlight.commands", "kdlight.api", "kdlight.cli", "kdlight.__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
WITH_LIGHTNING = RANK["kdlight.callbacks"]
"""From here on, and in the files below it that train."""
TRAINING = {f"kdlight.training.{name}" for name in ("base", "data", "reduction", "sharding")}
LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")


def files() -> Iterator[tuple[str, Path]]:
    """Module name and path of every file of the project."""
    for package in ("kdlight", "modules", "datamodules"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path


MODULES = dict(files())


def imported(module: str) -> set[str]:
    """All modules that a file imports, wherever in it."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # `from package import module` imports the module.
            found |= {
                name if (name := f"{base}.{alias.name}") in MODULES else base
                for alias in node.names
            }
    return found


def layer(module: str) -> str:
    """Name of the entry in ``LAYERS`` that a module belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in RANK), "")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    if module == "kdlight":
        # Its names are looked up in kdlight.api when they are first used.
        assert imported(module) == {"typing", "kdlight.api"}
        return
    own = layer(module)
    assert own, f"{module} belongs to no layer: add it to LAYERS, and to the design"
    for name in imported(module):
        if name == "kdlight":
            continue  # an empty file: they look where kdlight lies
        if name.partition(".")[0] not in ("kdlight", "modules", "datamodules"):
            continue
        other = layer(name)
        assert other, f"{module} imports {name}, which belongs to no layer"
        assert RANK[other] <= RANK[own], f"{module} imports {name}, from a layer above its own"
        if {own, other} == {"modules", "datamodules"}:
            pytest.fail(f"{module} imports {name}: methods and data never know each other")
        if own == other == "modules" and module.split(".")[1:2] != name.split(".")[1:2]:
            pytest.fail(f"{module} imports {name}: another domain's methods")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_ground_floor_does_without_lightning(module: str) -> None:
    own = layer(module)
    if module == "kdlight" or module in TRAINING or RANK[own] >= WITH_LIGHTNING:
        return
    found = {name for name in imported(module) if name.partition(".")[0] in LIGHTNING}
    assert not found, f"{module} imports {', '.join(found)}"


def test_relative_and_nested_imports_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "probe.py"
    path.write_text(
        "from . import cli\nfrom .losses.denoising import x\n"
        "def f():\n    import modules.diffusion\n    from kdlight.training import base\n"
    )
    monkeypatch.setitem(MODULES, "kdlight.probe", path)
    assert imported("kdlight.probe") == {
        "kdlight.cli",
        "kdlight.losses.denoising",
        "modules.diffusion",
        "kdlight.training.base",
    }


@pytest.mark.parametrize("folder", ["kdlight", "modules", "datamodules", "tests"])
def test_no_file_is_longer_than_a_room(folder: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 400}


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    """Folders of tests are no packages, so pytest knows a file by its name alone."""
    seen: dict[str, Path] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        other = seen.setdefault(path.name, path)
        assert other == path, f"{path} and {other}: pytest cannot tell them apart"
