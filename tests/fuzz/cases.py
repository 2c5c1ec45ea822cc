"""What is tried: keys of configurations, options of verbs, and files that they read."""

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdlight.commands import (
    convert,
    convert_voice,
    decode,
    encode,
    evaluate,
    evaluate_codec,
    evaluate_language,
    export,
    generate,
    pairs,
    prune,
    sample,
    score,
    select,
)
from kdlight.commands.parsing.arguments import Parser
from tests.fuzz.corpus import copied, settings
from tests.fuzz.damage import damages
from tests.fuzz.damage.anything import unreadable
from tests.fuzz.damage.places import VALUES, leaves, replaced, without
from tests.fuzz.slots import SLOTS
from tests.fuzz.slots.base import (
    BROUGHT,
    BUNDLED,
    KEPT,
    LANGUAGE,
    LAST,
    RUN,
    WRITER,
    Slot,
)
from tests.fuzz.slots.language import LARGE


@dataclass(frozen=True)
class Case:
    """One malformed command.

    Attributes:
        verb: Whose.
        what: What is wrong with it.
        make: Writes what it reads into the case's folder and returns the words.
        unprivileged: Whether it must run as a user whom permissions hold back.
        largest: Bytes at which the disk is full; None if it is not.
    """

    verb: str
    what: str
    make: Callable[[Path], list[str]]
    unprivileged: bool = False
    largest: int | None = None


TEXTS = [
    "",
    "x",
    "-1",
    "0",
    "1",
    "3",
    "1e3",
    "0.5",
    "nan",
    "inf",
    "99999999999",
    "9" * 40,
    "ü\u2028",
    "/",
    ".",
    "nowhere/at/all",
    "/dev/full",
    "/proc/x",
    "--",
    "-",
    "~",
    "a\nb",
    "a" * 300,
    "out.safetensors",
    "out.json",
    "pictures",
    "samples.pt",
]
"""What may stand behind an option."""

PARSED: dict[str, tuple[Callable[[], Parser], str, tuple[str, ...]]] = {
    "sample": (sample.parser, f"--checkpoint {LAST} --num-samples 4 --output out.npz", (LAST,)),
    "evaluate images": (
        evaluate.parser,
        f"--checkpoint {LAST} --data digits --num-samples 4 --classifier digits_classifier",
        (LAST,),
    ),
    "evaluate codec": (
        evaluate_codec.parser,
        "--checkpoint codec.safetensors --reference speech --metrics log_mel_l1",
        (*KEPT, "speech"),
    ),
    "encode": (
        encode.parser,
        "--checkpoint codec.safetensors speech --output out",
        (*KEPT, "speech"),
    ),
    "decode": (
        decode.parser,
        "--checkpoint codec.safetensors tokens --output out",
        (*KEPT, "tokens"),
    ),
    "convert-voice": (
        convert_voice.parser,
        "speech --to speech/a/0.wav --checkpoint converter.safetensors --output out",
        ("converter.safetensors", "converter.json", "speech"),
    ),
    "evaluate language": (evaluate_language.parser, WRITER, (LANGUAGE, "language.yaml")),
    "generate": (
        generate.parser,
        f"--checkpoint {LANGUAGE} --num-samples 2 --output out.txt",
        (LANGUAGE,),
    ),
    "pairs": (
        pairs.parser,
        "--checkpoint digits_teacher.safetensors --count 4 --steps 2 --output out.safetensors",
        BUNDLED,
    ),
    "export": (export.parser, "--run runs/tiny --output out.safetensors", (RUN,)),
    "score": (
        score.parser,
        "texts/b.jsonl --teacher large.safetensors --output out.jsonl",
        (*LARGE, "texts"),
    ),
    "select": (select.parser, "scores.jsonl --output out.json", ("scores.jsonl",)),
    "prune": (
        prune.parser,
        "large.safetensors --calibration long.txt --keep mlp=6 --output out.safetensors",
        (*LARGE, "long.txt"),
    ),
    "convert": (convert.parser, "encodec encodec.th out.safetensors", ("encodec.th",)),
}
"""Verbs whose options are known, a command of each that works, and what it reads."""

LENGTHS = ("iterations", "round_iterations", "max_time", "grace", "num_samples", "utterances")
"""Keys that say for how long."""

LOOSE = {
    "report": (
        ("--output", "--baseline", "--metric", "--model", "--steps", "--reach", "--json"),
        RUN,
    ),
    "list": (("", "methods", "configs", "--x"), "methods"),
}


def cases(root: Path, source: random.Random) -> dict[str, list[Case]]:
    """Cases by verb, those of each kind in a random order."""
    found: dict[str, list[Case]] = {}
    for kind in (file_cases, disk_cases, option_cases, key_cases):
        made = list(kind(root, source))
        source.shuffle(made)
        for case in made:
            found.setdefault(case.verb, []).append(case)
    return found


def drawn(root: Path, seed: int, count: int) -> list[Case]:
    """``count`` cases: half of ``fit``, whose keys are most, the other verbs in turns.

    The kinds of a verb take turns too.
    """
    source = random.Random(seed)
    by_verb = cases(root, source)
    queues = {verb: _in_turns(made) for verb, made in by_verb.items()}
    order = [verb for verb in queues if verb != "fit"]
    chosen: list[Case] = []
    while len(chosen) < count and queues:
        verb = (
            "fit" if len(chosen) % 2 and "fit" in queues else order[len(chosen) // 2 % len(order)]
        )
        found = next(queues[verb], None)
        if found is None:
            del queues[verb]
            order = [each for each in order if each in queues] or ["fit"]
            continue
        chosen.append(found)
    return chosen


def _in_turns(made: list[Case]) -> Iterator[Case]:
    kinds: dict[str, list[Case]] = {}
    for case in made:
        kinds.setdefault(case.what.partition(":")[0], []).append(case)
    while any(kinds.values()):
        for queue in kinds.values():
            if queue:
                yield queue.pop()


def file_cases(root: Path, source: random.Random) -> Iterator[Case]:
    """Every file that is read, spoilt in every way."""
    for slot in SLOTS:
        for damage in damages(root / slot.victim):
            seed = source.randrange(2**32)

            def make(
                folder: Path, slot: Slot = slot, damage: Any = damage, seed: int = seed
            ) -> list[str]:
                for name in slot.needs:
                    copied(root / name, folder / name)
                if "other" in slot.words.split():
                    copied(root / "pictures", folder / "other")
                damage(folder / slot.victim, random.Random(seed))
                return slot.words.split(" ")

            what = f"file: {slot.victim} {damage.__name__}"
            yield Case(slot.verb, what, make, damage is unreadable)


def disk_cases(root: Path, source: random.Random) -> Iterator[Case]:
    """Every command that works, on a disk that is full after some bytes.

    But for those whose processes hand pictures on: their memory would count as a file.
    """
    for words, needs in {slot.words: slot.needs for slot in SLOTS}.items():
        for largest in () if "pictures" in needs else (2**10, 2**14):

            def make(folder: Path, words: str = words, needs: tuple[str, ...] = needs) -> list[str]:
                for name in needs:
                    copied(root / name, folder / name)
                if "other" in words.split():
                    copied(root / "pictures", folder / "other")
                return words.split(" ")

            what = f"disk: {largest} bytes: {words[:60]}"
            yield Case(words.split()[0], what, make, largest=largest)


def option_cases(root: Path, source: random.Random) -> Iterator[Case]:
    """Every option with every text."""
    for name, (parser, words, needs) in PARSED.items():
        options = [
            (action.option_strings[0] if action.option_strings else "")
            for action in parser()._actions
            if not isinstance(action, argparse._HelpAction)
        ]
        yield from _options(root, name, options, words, needs)
    for name, (options, needed) in LOOSE.items():
        yield from _options(root, name, list(options), needed, (RUN,))


def _options(
    root: Path, name: str, options: list[str], words: str, needs: tuple[str, ...]
) -> Iterator[Case]:
    for option in options:
        for text in TEXTS:

            def make(folder: Path, option: str = option, text: str = text) -> list[str]:
                for needed in needs:
                    copied(root / needed, folder / needed)
                return [*name.split(), *words.split(), *([option] if option else []), text]

            yield Case(name.split()[0], f"option: {option} {text[:40]!r}", make)


def key_cases(root: Path, source: random.Random) -> Iterator[Case]:
    """Every key of the configurations with every value, without it, and with a stranger."""
    for name in BROUGHT:
        whole = settings(root, name)
        for keys in leaves(whole):
            for value in VALUES:
                if str(keys[-1]) in LENGTHS and isinstance(value, (int, float)) and value > 10:
                    continue  # long, and not wrong
                changed = replaced(whole, keys, value)
                yield _key_case(root, name, changed, keys, f"{value!r:.40}", source)
            yield _key_case(root, name, without(whole, keys), keys, "gone", source)
            if isinstance(keys[-1], str):
                stranger = replaced(whole, keys[:-1], {**_at(whole, keys[:-1]), f"{keys[-1]}x": 1})
                yield _key_case(root, name, stranger, keys, "a stranger beside it", source)


def _at(value: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _key_case(
    root: Path, name: str, changed: Any, keys: tuple[Any, ...], value: str, source: random.Random
) -> Case:
    verbs = {"trainer": ("fit", "fit", "validate", "test"), "data": ("fit", "fit", "predict")}
    verb = source.choice(verbs.get(str(keys[0]), ("fit",))) if name == "tiny" else "fit"

    def make(folder: Path) -> list[str]:
        for needed in BROUGHT[name]:
            (folder / needed).symlink_to(root / needed)
        text = yaml.safe_dump(changed, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        rest = [] if verb == "fit" else ["--ckpt_path", str(root / LAST)]
        return [verb, "--config", "config.yaml", *rest]

    return Case(verb, f"key: {name} {'.'.join(map(str, keys))} = {value}", make)
