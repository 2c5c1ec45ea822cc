"""Queries with passages, of which the first is relevant, and what teachers score them."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from datamodules.base import EndlessDataModule
from datamodules.loader import Batch, EndlessLoader, EvaluationLoader, StreamLoader
from datamodules.order import positive
from datamodules.text.base import split_whole
from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.json_text import parse_line
from kdlight.storage.text import read_lines
from kdlight.storage.tokenizers import Reading, Tokenizer
from kdlight.teachers.sentence_scores import mean_scores, sentence_vectors
from kdlight.teachers.text import TextTeacher


class Ranked(NamedTuple):
    """A query.

    Attributes:
        query: Its text.
        passages: Texts, the relevant one first.
        scores: What a teacher gave each passage; None where teachers are still to be asked.
    """

    query: str
    passages: list[str]
    scores: list[float] | None = None


class Retrieval(NamedTuple):
    """Held-out queries, and all passages among which theirs are to be found.

    Attributes:
        queries: (Q, L) int64, with its mask of what is no padding.
        queries_mask: (Q, L) bool.
        passages: (N, L) int64.
        passages_mask: (N, L) bool.
        relevant: Number of each query's passage, (Q,) int64.
        scores: Of the teachers, (Q, N); None where they are not known.
    """

    queries: Tensor
    queries_mask: Tensor
    passages: Tensor
    passages_mask: Tensor
    relevant: Tensor
    scores: Tensor | None


class RankingDataModule(EndlessDataModule):
    """Base of the data modules of queries and passages: a subclass says what they are.

    Batches are ``{"query": (B, L), "passages": (B, C, L), "scores": (B, C)}`` with ``query_mask``
    and ``passages_mask`` of what is no padding; the relevant passage is the first. A score is the
    mean of the teachers' cosines times ``scale``. The teachers are asked once, before training
    starts, by the first process.

    Args:
        tokenizer: The student's.
        length: Tokens of a text that the student reads; longer ones are cut.
        teachers: Who scores; None where the data bring scores.
        scale: Of a cosine.
        folder: Where what teachers said lies.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
        teachers: Sequence[TextTeacher] | None,
        scale: float,
        folder: str,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.tokenizer, self.length = tokenizer, positive("length", length)
        self.vocabulary = tokenizer.size
        self.teachers, self.scale, self.folder = list(teachers or []), scale, Path(folder)
        self.batch_size, self.steps_per_epoch, self.seed = batch_size, steps_per_epoch, seed

    def rows(self) -> tuple[list[Ranked], list[Ranked]]:
        """Queries to train on, and queries that are held out."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Ask the teachers, in one process, while the others wait."""
        _ = self._vectors

    def setup(self, stage: str | None = None) -> None:
        """Read the data before training starts, so that bad data stop a run at once."""
        _ = self.parts

    @cached_property
    def _rows(self) -> tuple[list[Ranked], list[Ranked]]:
        return self.rows()

    @cached_property
    def _texts(self) -> dict[str, int]:
        """Number of each text, queries before passages."""
        rows = [row for part in self._rows for row in part]
        texts = [row.query for row in rows] + [text for row in rows for text in row.passages]
        return {text: number for number, text in enumerate(dict.fromkeys(texts))}

    @cached_property
    def _vectors(self) -> list[Tensor]:
        return [sentence_vectors(each, list(self._texts), self.folder) for each in self.teachers]

    @cached_property
    def parts(self) -> tuple[Batch, Retrieval]:
        """The data, read once."""
        training, heldout = self._rows
        tokens = self._tokens(list(self._texts))
        return self._training(training, tokens), self._retrieval(
            training + heldout, heldout, tokens
        )

    def _training(self, rows: list[Ranked], tokens: Batch) -> Batch:
        count = max(len(row.passages) for row in rows)
        queries = torch.tensor([self._texts[row.query] for row in rows])
        # A passage that is not there is the last of all numbers, of a text without a token.
        numbers = torch.full((len(rows), count), len(self._texts))
        scores = torch.zeros(len(rows), count)
        for place, row in enumerate(rows):
            numbers[place, : len(row.passages)] = torch.tensor(
                [self._texts[text] for text in row.passages]
            )
            scores[place, : len(row.passages)] = torch.tensor(self._scored(row))
        return {
            "query": tokens["tokens"][queries],
            "query_mask": tokens["mask"][queries],
            "passages": tokens["tokens"][numbers],
            "passages_mask": tokens["mask"][numbers],
            "scores": scores,
        }

    def _scored(self, row: Ranked) -> list[float]:
        if not self._vectors:
            assert row.scores is not None
            return row.scores
        passages = torch.tensor([self._texts[text] for text in row.passages])
        queries = torch.full_like(passages, self._texts[row.query])
        return (self.scale * mean_scores(self._vectors, queries, passages)).tolist()

    def _retrieval(self, every: list[Ranked], heldout: list[Ranked], tokens: Batch) -> Retrieval:
        known = {text: self._texts[text] for row in every for text in row.passages}
        numbers = torch.tensor(list(known.values()))
        place = {text: index for index, text in enumerate(known)}
        queries = torch.tensor([self._texts[row.query] for row in heldout])
        scores = None
        if self._vectors:
            # A row at a time: all pairs of vectors at once would be of size Q N D.
            each = [
                mean_scores(self._vectors, one.expand(len(numbers)), numbers) for one in queries
            ]
            scores = torch.stack(each)
        return Retrieval(
            tokens["tokens"][queries],
            tokens["mask"][queries],
            tokens["tokens"][numbers],
            tokens["mask"][numbers],
            torch.tensor([place[row.passages[0]] for row in heldout]),
            scores,
        )

    def _tokens(self, texts: list[str]) -> Batch:
        """Tokens and mask of all texts, and behind them of one without a token."""
        tokens = torch.zeros(len(texts) + 1, self.length, dtype=torch.int64)
        mask = torch.zeros(len(texts) + 1, self.length, dtype=torch.bool)
        reading = Reading(self.tokenizer)
        for row, text in enumerate(texts):
            ids = reading.encode(text)[: self.length]
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            mask[row, : len(ids)] = True
        if lacking := reading.lacking():
            rank_zero_warn(f"queries and passages: {lacking}")
        return {"tokens": tokens, "mask": mask}

    def make_train_loader(self) -> EndlessLoader:
        """A training loader that starts at the beginning."""
        return StreamLoader(
            self.parts[0], self.batch_size, self.steps_per_epoch, self.seed, *self.ranks
        )

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out queries, with the numbers of their passages."""
        found = self.parts[1]
        queries = {
            "query": found.queries,
            "query_mask": found.queries_mask,
            "relevant": found.relevant,
        }
        return EvaluationLoader(queries, self.batch_size, *self.ranks)


class RankingFilesDataModule(RankingDataModule):
    """JSON lines of ``{"query", "positive", "negatives"}``, and ``"scores"`` of all passages.

    ``scores`` has one number a passage, the positive's first, as published files of teachers'
    scores do; without it ``teachers`` are asked.

    Args:
        path: The file.
        tokenizer: The student's.
        length: Tokens of a text that the student reads.
        teachers: Who scores; None takes the file's scores.
        scale: Of a cosine.
        folder: Where what teachers said lies.
        heldout: Share of the lines that is held out.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the split does not depend on it.

    Raises:
        InputError: A number is out of range, or a line is of another form.
    """

    def __init__(
        self,
        path: str,
        tokenizer: Tokenizer,
        length: int = 64,
        teachers: list[TextTeacher] | None = None,
        scale: float = 20.0,
        folder: str = "data/sentence_vectors",
        heldout: float = 0.1,
        batch_size: int = 32,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(
            tokenizer, length, teachers, scale, folder, batch_size, steps_per_epoch, seed
        )
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.path, self.heldout = Path(path), heldout

    def rows(self) -> tuple[list[Ranked], list[Ranked]]:
        require_file(self.path)
        found = [
            self._row(line, f"{self.path}: line {number}")
            for number, line in enumerate(read_lines(self.path), start=1)
            if line.strip()
        ]
        if len(found) < 2:
            raise InputError(f"{self.path}: expected at least 2 lines, found {len(found)}.")
        return split_whole(found, self.heldout)

    def _row(self, line: str, place: str) -> Ranked:
        row = parse_line(line, place)
        known = row if isinstance(row, dict) else {}
        query, first, others = (known.get(key) for key in ("query", "positive", "negatives"))
        texts = [query, first, *(others if isinstance(others, list) else [None])]
        if len(texts) < 3 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError(
                f"{place}: expected a query, a positive and a list of negatives, all of them text."
            )
        scores = known.get("scores")
        if self.teachers:
            return Ranked(texts[0], texts[1:])
        numbers = scores if isinstance(scores, list) else []
        right = [each for each in numbers if type(each) in (int, float) and abs(each) < 1e6]
        if len(right) != len(texts) - 1 or len(numbers) != len(right):
            raise InputError(
                f"{place}: expected {len(texts) - 1} scores, one a passage, found "
                f"{json.dumps(scores)[:60]}; teachers can be asked instead."
            )
        return Ranked(texts[0], texts[1:], [float(each) for each in right])
