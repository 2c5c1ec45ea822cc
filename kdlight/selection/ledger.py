"""Questions that were asked and their answers, in a file, so that none is paid for twice."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kdlight.errors import InputError
from kdlight.storage.files import is_there
from kdlight.storage.json_text import parse_line


class Ledger:
    """Answers by question, a line each, written before they are used.

    A kill at any moment loses the question that was being asked and no other: a last line without
    its end is left out, and asked again.

    Args:
        path: The file, ``.jsonl``; None keeps answers for this process alone.
        budget: Answers that may be paid for, those that the file holds among them; None for any
            number.

    Raises:
        InputError: A line is damaged.
    """

    def __init__(self, path: Path | None, budget: int | None = None) -> None:
        self.path, self.budget = path, budget
        self.calls = 0
        self.answers: dict[str, Any] = {}
        if path is not None and is_there(path):
            text = path.read_bytes().decode("utf-8", "replace")
            for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
                place = f"{path}: line {number}"
                row = parse_line(line, place)
                known = row if isinstance(row, dict) else {}
                if not isinstance(known.get("key"), str) or "answer" not in known:
                    raise InputError(
                        f"{place}: expected a question and its answer, found {line[:40]!r}."
                    )
                self.answers[known["key"]] = known["answer"]
            if not text.endswith("\n") and text:
                with path.open("r+b") as stream:
                    stream.truncate(len(text[: text.rfind("\n") + 1].encode()))

    @property
    def left(self) -> int | None:
        """Calls that may still be made; None for any number."""
        return None if self.budget is None else max(0, self.budget - len(self.answers))

    def knows(self, request: Mapping[str, Any]) -> bool:
        """Whether a question was answered before."""
        return _key(request) in self.answers

    def ask(self, request: Mapping[str, Any], call: Callable[[Mapping[str, Any]], Any]) -> Any:
        """The answer, of the file or of a call.

        Raises:
            InputError: A call is needed and the budget is spent.
        """
        key = _key(request)
        if key not in self.answers:
            if self.left == 0:
                raise InputError(
                    f"budget: expected calls that are left, found all {self.budget} made."
                )
            self.calls += 1
            self.answers[key] = call(request)
            self._write({"key": key, "request": dict(request), "answer": self.answers[key]})
        return self.answers[key]

    def ask_all(
        self, requests: Iterable[Mapping[str, Any]], call: Callable[[Mapping[str, Any]], Any]
    ) -> list[Any]:
        """Answers to the first questions, as many as the budget allows."""
        answers = []
        for request in requests:
            if self.left == 0 and not self.knows(request):
                break
            answers.append(self.ask(request, call))
        return answers

    def _write(self, row: dict[str, Any]) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _key(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(request), sort_keys=True).encode()).hexdigest()
