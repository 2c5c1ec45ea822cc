"""Pairs of text and code that need no download: the standard library's functions."""

import ast
import sysconfig
from pathlib import Path

from datamodules.order import permutation, positive
from datamodules.text.ranking import Ranked, RankingDataModule
from kdlight.errors import InputError
from kdlight.storage.tokenizers import Tokenizer

LEAST = 4
"""Words of a docstring and lines of a function's source."""


class CodePairsDataModule(RankingDataModule):
    """Which function does the first paragraph of a docstring speak of?

    Functions are those of the standard library's modules of one file, without their docstring, and
    named ``f``; they differ a little from version to version. Whole modules are held out, and a
    docstring that stands twice is taken once. A passage is the one function; its partners in
    training are the rest of the batch.

    Args:
        tokenizer: The student's.
        length: Tokens of a text that the student reads.
        most: Pairs that are taken, evenly spread over all; None for all.
        heldout: Share of the modules that is held out.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the split does not depend on it.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int = 48,
        most: int | None = None,
        heldout: float = 0.2,
        batch_size: int = 32,
        steps_per_epoch: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(tokenizer, length, None, 1.0, "", batch_size, steps_per_epoch, seed)
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.heldout = heldout
        self.most = most if most is None else positive("most", most, 4)

    def rows(self) -> tuple[list[Ranked], list[Ranked]]:
        every = code_pairs()
        step = 1 if self.most is None else max(1, len(every) // self.most)
        some = every[::step][: self.most]
        modules = sorted({module for module, _, _ in some})
        count = min(max(round(self.heldout * len(modules)), 1), len(modules) - 1)
        held = {modules[number] for number in permutation(len(modules), 0, 0)[:count].tolist()}
        parts: tuple[list[Ranked], list[Ranked]] = ([], [])
        for module, text, code in some:
            parts[module in held].append(Ranked(text, [code], [0.0]))
        return parts


def code_pairs() -> list[tuple[str, str, str]]:
    """Module, first paragraph of the docstring and source of every function that has both."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.FunctionDef):
                continue
            text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if len(text.split()) < LEAST or len(node.body) < 2:
                continue
            node.body, node.name = node.body[1:], "f"
            code = ast.unparse(node)
            if code.count("\n") + 1 >= LEAST and text not in found:
                found[text] = (path.stem, code)
    return [(module, text, code) for text, (module, code) in found.items()]
