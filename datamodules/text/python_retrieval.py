"""Retrieval that needs no download: Python's documentation by its first sentences."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch

from datamodules.order import positive
from datamodules.text.base import split_whole
from datamodules.text.python_topics import topic_texts
from datamodules.text.ranking import Ranked, RankingDataModule
from kdlight.errors import InputError
from kdlight.storage.tokenizers import Tokenizer
from kdlight.teachers.text import TextTeacher

SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z])")
LEAST = 5
"""Words of a query and of a passage."""


class PythonRetrievalDataModule(RankingDataModule):
    """Some 2,000 paragraphs and docstrings of Python: which one does a sentence begin?

    Paragraphs are those of ``pydoc_data``, docstrings the standard library's; the text differs a
    little from version to version. A query is the first sentence, its passage what follows;
    negatives are other training passages, drawn once. Held-out queries are searched among all
    passages, of which theirs were never seen.

    Args:
        tokenizer: The student's.
        teachers: Who scores.
        length: Tokens of a text that the student reads.
        negatives: Other passages of a query.
        most: Passages that are taken, evenly spread over all; None for all.
        scale: Of a cosine.
        folder: Where what teachers said lies.
        heldout: Share of the passages that is held out.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; neither split nor negatives depend on it.

    Raises:
        InputError: A number is out of range, or there are no teachers.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        teachers: list[TextTeacher],
        length: int = 64,
        negatives: int = 7,
        most: int | None = None,
        scale: float = 20.0,
        folder: str = "data/sentence_vectors",
        heldout: float = 0.2,
        batch_size: int = 32,
        steps_per_epoch: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(
            tokenizer, length, teachers, scale, folder, batch_size, steps_per_epoch, seed
        )
        if not 0 < heldout < 1 or not teachers:
            raise InputError(
                "heldout, teachers: expected a fraction between 0 and 1 and at least one teacher, "
                f"found {heldout} and {len(teachers)}."
            )
        self.negatives, self.heldout = positive("negatives", negatives), heldout
        self.most = most if most is None else positive("most", most, 4)

    def rows(self) -> tuple[list[Ranked], list[Ranked]]:
        every = documentation()
        step = 1 if self.most is None else max(1, len(every) // self.most)
        training, heldout = split_whole(every[::step][: self.most], self.heldout)
        generator = torch.Generator().manual_seed(0)
        rows = []
        for number, (query, passage) in enumerate(training):
            drawn = torch.randint(len(training) - 1, (self.negatives,), generator=generator)
            others = [training[each + (each >= number)][1] for each in drawn.tolist()]
            rows.append(Ranked(query, [passage, *others]))
        return rows, [Ranked(query, [passage]) for query, passage in heldout]


def documentation() -> list[tuple[str, str]]:
    """First sentence and rest of every paragraph and docstring that has both, each once."""
    blocks = [block for topic in topic_texts() for block in topic.text.split("\n\n")]
    found = {}
    for block in [*blocks, *docstrings()]:
        parts = SENTENCE.split(" ".join(block.split()), maxsplit=1)
        if len(parts) == 2 and min(len(part.split()) for part in parts) >= LEAST:
            found[parts[1]] = parts[0]
    return [(query, passage) for passage, query in found.items()]


def docstrings() -> Iterator[str]:
    """Those of the standard library's single-file modules, read and not run."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""
