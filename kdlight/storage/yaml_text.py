"""YAML as libyaml reads and writes it, ten times as fast; what it allows and no user means."""

import re
from typing import Any

import yaml

# PyYAML's own where it was built without libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

LARGEST = 100_000
"""Values that a file may unfold to: aliases of aliases grow without end."""
DEEPEST = 200
"""Lists and mappings inside each other; libyaml's reader ends the process at some thousands."""
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
"""NUL, which no name of a file holds, and halves of characters, which no file does."""
LONGEST = 4_000_000
"""Characters of a file: some seconds of reading."""


def load_yaml(text: str) -> Any:
    """What ``text`` says; nothing is built but Python's own values.

    Raises:
        yaml.YAMLError: It is no YAML, or nested too deep.
    """
    _check_depth(text)
    return yaml.load(text, Loader=_LOADER)


def dump_yaml(value: Any) -> str:
    """``value`` as YAML, its keys in their order."""
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False)
    return text


class UnmeantYAMLError(yaml.MarkedYAMLError):
    """A key twice, a part that contains itself, no text, aliases without end, or too long."""


def check_yaml(text: str) -> None:
    """Refuse YAML whose reading would lose a value, or never end.

    Raises:
        UnmeantYAMLError: It is one of these.
        yaml.YAMLError: It is no YAML.
    """
    if len(text) > LONGEST:
        raise UnmeantYAMLError(problem=f"longer than {LONGEST:,} characters")
    _check_depth(text)
    root = yaml.compose(text, Loader=_LOADER)
    if root is not None:
        _measure(root, frozenset(), {})


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise UnmeantYAMLError(problem="nested too deep")


def _measure(node: yaml.Node, above: frozenset[int], known: dict[int, int]) -> int:
    """Values that ``node`` unfolds to; ``known`` holds those of nodes that were seen."""
    if id(node) in above:
        raise UnmeantYAMLError(problem="this part contains itself", problem_mark=node.start_mark)
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.ScalarNode) and (odd := _NO_TEXT.search(node.value)):
        problem = f"{odd[0]!a} is no character of a text"
        raise UnmeantYAMLError(problem=problem, problem_mark=node.start_mark)
    inside = above | {id(node)}
    total = 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    problem = f"the key {key.value!r} is given twice"
                    raise UnmeantYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
            else:
                problem = "a key that is a list or a mapping"
                raise UnmeantYAMLError(problem=problem, problem_mark=key.start_mark)
            total += _measure(key, inside, known) + _measure(value, inside, known)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_measure(item, inside, known) for item in node.value)
    if total > LARGEST:
        problem = f"aliases unfold to more than {LARGEST:,} values"
        raise UnmeantYAMLError(problem=problem, problem_mark=node.start_mark)
    known[id(node)] = total
    return total
