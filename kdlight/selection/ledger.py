"""Questions that were asked and their answers, in a file, so that none is paid for twice."""

import contextlib
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

    A kill at any moment loses the question that was being asked and no other: half a line at the
    end is left out, and asked again.

    Args:
        path: The file, ``.jsonl``; None keeps answers for this process alone.
        budget: Answers that may be paid for, those that the file holds among them; None for any
            number.
        check: Raises :class:`~kdlight.errors.InputError` for what is no answer.
        teacher: Who is asked, in a word of its own; None where that is not known.

    Raises:
        InputError: A line is damaged, holds no such answer, the answer of another teacher, or
            another answer to a question than a line before it.
    """

    def __init__(
        self,
        path: Path | None,
        budget: int | None = None,
        check: Callable[[Any], Any] = lambda answer: None,
        teacher: str | None = None,
    ) -> None:
        self.path, self.budget, self.teacher = path, budget, teacher
        self.calls = 0
        self.answers: dict[str, Any] = {}
        self._end: tuple[int, bytes] | None = None
        """Where the next line is to be written after one without its end, and what precedes it."""
        if path is not None and is_there(path):
            data = path.read_bytes()
            whole, _, rest = data.rpartition(b"\n")
            lines = whole.removesuffix(b"\r").split(b"\n") if whole else []
            for number, line in enumerate(lines, start=1):
                self._take(line, f"{path}: line {number}", check)
            if rest:
                self._end = len(data) - len(rest), b""
                with contextlib.suppress(InputError):  # the question that was being asked
                    self._take(rest, str(path), check)
                    self._end = len(data), b"\n"

    def _take(self, line: bytes, place: str, check: Callable[[Any], Any]) -> None:
        """Read one line."""
        row = parse_line(line, place)
        known = row if isinstance(row, dict) else {}
        key, request = known.get("key"), known.get("request")
        if not isinstance(key, str) or "answer" not in known:
            found = line[:40].decode(errors="replace")
            raise InputError(f"{place}: expected a question and its answer, found {found!r}.")
        if isinstance(request, dict) and key != _key(request):
            raise InputError(f"{place}: expected the key of its question, found {key[:12]!r}.")
        answer, teacher = known["answer"], known.get("teacher")
        try:
            check(answer)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        if teacher is not None and self.teacher not in (None, teacher):
            raise InputError(
                f"{place}: expected answers of this teacher ({self.teacher}), found those of "
                f"another ({str(teacher)[:40]}); name another ledger."
            )
        if self.answers.setdefault(key, answer) != answer:
            raise InputError(f"{place}: expected one answer to a question, found a second one.")

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
            row = {"key": key, "request": dict(request), "answer": self.answers[key]}
            self._write(row if self.teacher is None else {"teacher": self.teacher, **row})
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
        line = json.dumps(row).encode() + b"\n"
        if self._end is not None:  # not before: a run that is refused leaves the file as it was
            length, before = self._end
            os.truncate(self.path, length)
            line, self._end = before + line, None
        with self.path.open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())


def _key(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(request), sort_keys=True).encode()).hexdigest()
