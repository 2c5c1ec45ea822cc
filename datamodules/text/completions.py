"""Prompts with completions, and conversations: what the assistant says is learnt."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.loader import Batch
from datamodules.text.base import TokenDataModule, split_whole
from kdlight.core.hints import called
from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.storage.documents import Document
from kdlight.storage.files import require_file
from kdlight.storage.json_text import parse_line
from kdlight.storage.pretrained import pretrained, reason
from kdlight.storage.text import read_lines
from kdlight.storage.tokenizers import FileTokenizer, Reading

Piece = tuple[list[int], bool]
"""Tokens, and whether they are scored."""


class CompletionsDataModule(TokenDataModule):
    """JSON lines of ``{"prompt", "completion"}`` or of ``{"messages": [{"role", "content"}]}``.

    Prompt and completion are tokenised apart, as they are when a model is asked, and the token that
    ends a text stands behind the completion. Messages are laid out by the chat template of the
    tokenizer; what assistants say is scored, the token that ends their turn among it. A row is one
    line, filled up behind.

    Args:
        path: The file.
        tokenizer_path: Folder of transformers with the tokenizer (and its chat template).
        length: Tokens of a row.
        too_long: ``refuse`` names a line that is longer; ``cut`` takes off what is too much behind,
            and says of how many lines.
        heldout: Share of the lines that is held out.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: A number is out of range; the folder holds no tokenizer with a token that ends a
            text; a line holds neither form, an empty completion, or does not fit.
    """

    def __init__(
        self,
        path: str,
        tokenizer_path: str,
        length: PositiveInt,
        too_long: Literal["refuse", "cut"] = "refuse",
        heldout: float = 0.1,
        batch_size: int = 16,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.path, self.length = Path(path), length
        self.too_long, self.heldout = too_long, heldout
        self.tokenizer_path = tokenizer_path
        self.tokenizer = FileTokenizer(tokenizer_path)
        if self.tokenizer.end is None:
            raise InputError(f"{tokenizer_path}: expected a token that ends a text, found none.")
        self.vocabulary = self.tokenizer.size

    def read(self) -> tuple[Batch, Batch]:
        require_file(self.path)
        rows = [
            Document(line, f"{self.path}: line {number}")
            for number, line in enumerate(read_lines(self.path), start=1)
            if line.strip()
        ]
        if len(rows) < 2:
            raise InputError(f"{self.path}: expected at least 2 lines, found {len(rows)}.")
        training, heldout = split_whole(rows, self.heldout)
        return self._batch(training), self._batch(heldout)

    def _batch(self, rows: list[Document]) -> Batch:
        assert self.tokenizer is not None
        tokens = torch.full((len(rows), self.length), self.tokenizer.end or 0)
        mask = torch.zeros(len(rows), self.length, dtype=torch.bool)
        lengths, cut = [], 0
        reading = Reading(self.tokenizer)
        for index, (line, place) in enumerate(rows):
            pieces = list(self._pieces(line, place, reading))
            ids = [token for piece, _ in pieces for token in piece]
            scored = [own for piece, own in pieces for _ in piece]
            if len(ids) > self.length:
                cut += 1
                self._check_length(ids, scored, place)
            ids, scored = ids[: self.length], scored[: self.length]
            tokens[index, : len(ids)] = torch.tensor(ids)
            mask[index, : len(ids)] = torch.tensor(scored)
            lengths.append(len(ids))
        if cut:
            print(f"{self.path}: {cut} of {len(rows)} lines cut to {self.length} tokens")
        if lacking := reading.lacking():
            rank_zero_warn(f"{self.path}: {lacking}")
        return {"tokens": tokens, "mask": mask, "lengths": torch.tensor(lengths)}

    def _check_length(self, ids: list[int], scored: list[bool], place: str) -> None:
        if self.too_long == "refuse":
            raise InputError(
                f"{place}: expected at most {self.length} tokens, found {len(ids)}; too_long: cut "
                "takes off what is too much."
            )
        if not any(scored[: self.length]):
            raise InputError(
                f"{place}: expected a prompt of fewer than {self.length} tokens, found "
                f"{scored.index(True)}."
            )

    def _pieces(self, line: str, place: str, reading: Reading) -> Iterator[Piece]:
        row = parse_line(line, place)
        if isinstance(row, dict) and {"prompt", "completion"} <= row.keys():
            yield from self._pair(row["prompt"], row["completion"], place, reading)
        elif isinstance(row, dict) and isinstance(row.get("messages"), list):
            yield from self._turns(row["messages"], place, reading)
        else:
            raise InputError(f"{place}: expected prompt and completion, or messages.")

    def _pair(self, prompt: Any, completion: Any, place: str, reading: Reading) -> Iterator[Piece]:
        assert self.tokenizer is not None
        if not isinstance(prompt, str) or not isinstance(completion, str) or not completion:
            raise InputError(f"{place}: expected a prompt and a completion that is not empty.")
        yield reading.encode(prompt), False
        yield [*reading.encode(completion), int(self.tokenizer.end or 0)], True

    def _turns(self, messages: list[Any], place: str, reading: Reading) -> Iterator[Piece]:
        for number, each in enumerate(messages, start=1):
            _check_message(each, f"{place}: message {number}")
        messages = [each | {"content": _text_of(each.get("content"))} for each in messages]
        said = [number for number, each in enumerate(messages) if each["role"] == "assistant"]
        if not said:
            raise InputError(f"{place}: expected a message of an assistant, found none.")
        known_tokens: list[int] = []
        for number in said:
            asked = reading.encode(self._rendered(messages[:number], True, place))
            answered = reading.encode(self._rendered(messages[: number + 1], False, place))
            if asked[: len(known_tokens)] != known_tokens or answered[: len(asked)] != asked:
                raise InputError(
                    f"{place}: expected a chat template that only adds to what was said before; "
                    f"message {number + 1} changes it."
                )
            yield asked[len(known_tokens) :], False
            yield answered[len(asked) :], True
            known_tokens = answered

    @cached_property
    def _chat(self) -> Any:
        """What lays conversations out."""
        from transformers import AutoTokenizer

        return pretrained(AutoTokenizer, str(self.tokenizer_path), "a tokenizer of transformers")

    def _rendered(self, messages: list[Any], ask: bool, place: str) -> str:
        try:
            text: str = self._chat.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask
            )
        except Exception as error:  # whatever a template raises
            raise InputError(
                f"{place}: the chat template cannot lay it out{reason(error)}."
            ) from None
        return text


def _check_message(message: Any, place: str) -> None:
    """Refuse a message whose role or content a template would write as it is not meant."""
    known = message if isinstance(message, dict) else {}
    calls, content = known.get("tool_calls"), known.get("content")
    if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
        raise InputError(f"{place}: tool_calls: expected a list of objects, found {called(calls)}.")
    # A template would write "None" for what is not said.
    if not isinstance(known.get("role"), str) or (content is None and not calls):
        raise InputError(f"{place}: expected a role and a content.")
    if isinstance(content, list):  # of which a template of text writes Python's brackets
        wrong = next((part for part in content if not _is_text(part)), None)
        if wrong is not None or not content:
            raise InputError(f"{place}: content: expected text, found {str(wrong)[:40]!r}.")
    elif not isinstance(content, str | None):
        raise InputError(f"{place}: content: expected text, found {called(content)}.")
    if known["role"] == "assistant" and not calls and not _text_of(content):
        raise InputError(f"{place}: expected a content that is not empty.")


def _is_call(part: Any) -> bool:
    return isinstance(part, dict) and bool(part)


def _is_text(part: Any) -> bool:
    """Whether a part of a content is text, as OpenAI's messages have it."""
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _text_of(content: str | list[dict[str, str]] | None) -> str:
    """A content as text; of a message that only calls a tool nothing."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""
