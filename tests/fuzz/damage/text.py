"""Ways to spoil text, JSON and YAML."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

from tests.fuzz.damage.anything import CANARY, Damage
from tests.fuzz.damage.places import VALUES, leaves, replaced, without


def with_bom(path: Path, source: random.Random) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def wide(path: Path, source: random.Random) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


def latin(path: Path, source: random.Random) -> None:
    path.write_bytes(path.read_bytes() + "ünïcödé\n".encode("latin-1"))


def line_gone(path: Path, source: random.Random) -> None:
    lines = path.read_text().splitlines(keepends=True)
    del lines[source.randrange(len(lines))]
    path.write_text("".join(lines))


def line_twice(path: Path, source: random.Random) -> None:
    lines = path.read_text().splitlines(keepends=True)
    at = source.randrange(len(lines))
    path.write_text("".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))


def line_odd(path: Path, source: random.Random) -> None:
    lines = path.read_text().splitlines(keepends=True)
    odd = ("\t\t\n", "\0\0\n", "\u2028\n", "a,b,c,d\n", '{"audio": null}\n', "[]\n", "x" * 10**5)
    lines.insert(source.randrange(len(lines) + 1), source.choice(odd))
    path.write_text("".join(lines))


TEXT: list[Damage] = [with_bom, wide, latin, line_gone, line_twice, line_odd]


def value_changed(path: Path, source: random.Random) -> None:
    value = json.loads(path.read_text())
    path.write_text(
        json.dumps(replaced(value, source.choice(leaves(value)), source.choice(VALUES)))
    )


def key_gone(path: Path, source: random.Random) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(without(value, source.choice(leaves(value)))))


def top_changed(path: Path, source: random.Random) -> None:
    path.write_text(json.dumps(source.choice(VALUES)))


def key_twice(path: Path, source: random.Random) -> None:
    text = path.read_text().strip()
    key = source.choice(list(json.loads(text))) if text.startswith("{") else "x"
    path.write_text(f"{text[:-1]}, {json.dumps(key)}: 3{text[-1]}")


def deep(path: Path, source: random.Random) -> None:
    path.write_text("[" * 100_000 + "]" * 100_000)


def surrogate(path: Path, source: random.Random) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(replaced(value, source.choice(leaves(value)), "\ud800")))


JSON: list[Damage] = [*[value_changed] * 8, key_gone, key_gone, top_changed, key_twice, deep,
                      surrogate]  # fmt: skip


def _row(path: Path, source: random.Random) -> tuple[list[str], int, Any]:
    lines = path.read_text().splitlines()
    at = source.randrange(len(lines))
    return lines, at, json.loads(lines[at])


def row_changed(path: Path, source: random.Random) -> None:
    lines, at, row = _row(path, source)
    lines[at] = json.dumps(replaced(row, source.choice(leaves(row)), source.choice(VALUES)))
    path.write_text("\n".join(lines) + "\n")


def row_key_gone(path: Path, source: random.Random) -> None:
    lines, at, row = _row(path, source)
    lines[at] = json.dumps(without(row, source.choice(leaves(row))))
    path.write_text("\n".join(lines) + "\n")


def row_long(path: Path, source: random.Random) -> None:
    lines, at, row = _row(path, source)
    odd = ("[" * 10**5 + "]" * 10**5, "9" * 5000, "1e400", '"\\ud800"', '{"a": 1, "a": 2}')
    value = json.dumps(replaced(row, source.choice(leaves(row)), "@"))
    lines[at] = value.replace('"@"', source.choice(odd))
    path.write_text("\n".join(lines) + "\n")


JSON_LINES: list[Damage] = [*[row_changed] * 6, row_key_gone, row_key_gone, row_long, row_long]


def yaml_tagged(path: Path, source: random.Random) -> None:
    path.write_text(path.read_text() + f"extra: !!python/object/apply:os.mkdir ['{CANARY}']\n")


def yaml_recursive(path: Path, source: random.Random) -> None:
    path.write_text("model: &a {class_path: x, init_args: *a}\n")


def yaml_laugh(path: Path, source: random.Random) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{after}: &{after} [{', '.join(['*' + before] * 9)}]")
    path.write_text("\n".join(lines) + "\n")


def yaml_deep(path: Path, source: random.Random) -> None:
    path.write_text("model: " + "[" * 5000 + "]" * 5000 + "\n")


def yaml_tab(path: Path, source: random.Random) -> None:
    path.write_text(path.read_text().replace("  ", "\t"))


def yaml_two(path: Path, source: random.Random) -> None:
    path.write_text(path.read_text() + "---\nname: other\n")


def yaml_odd_keys(path: Path, source: random.Random) -> None:
    line = source.choice(
        ("1: 2", "null: 3", "? [1, 2]\n: 3", "? {a: 1}\n: 3", "2020-01-01: x", "~: 1")
    )
    path.write_text(path.read_text() + line + "\n")


def yaml_merged(path: Path, source: random.Random) -> None:
    path.write_text(path.read_text() + "<<: 3\n")


def yaml_value(path: Path, source: random.Random) -> None:
    value = yaml.safe_load(path.read_text())
    changed = replaced(value, source.choice(leaves(value)), source.choice(VALUES))
    path.write_text(yaml.safe_dump(changed, allow_unicode=True))


YAML: list[Damage] = [yaml_tagged, yaml_recursive, yaml_laugh, yaml_deep, yaml_tab, yaml_two,
                      yaml_odd_keys, yaml_odd_keys, yaml_merged, *[yaml_value] * 6]  # fmt: skip
