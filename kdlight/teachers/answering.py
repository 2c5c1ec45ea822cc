"""Teachers that are asked questions: an oracle with faults, and a server as OpenAI's are."""

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from kdlight.core.ranges import PositiveFloat, Probability
from kdlight.core.spec import Recorded, spec_of
from kdlight.discrete.entities import EntityLanguage
from kdlight.errors import InputError


@runtime_checkable
class AnsweringTeacher(Protocol):
    """Answers one question at a time."""

    def answer(self, request: Mapping[str, Any]) -> Any:
        """The answer, JSON-ready.

        Args:
            request: ``{"text": ..., "types": [...]}`` asks for the entities of a text.
        """
        ...


LOCATIONS = ("url", "key_variable", "seconds")
"""Arguments that say where a teacher is, not what it answers."""


def name_of(teacher: AnsweringTeacher) -> str | None:
    """A word for a teacher that another one does not have; None for one that is not recorded."""
    if not isinstance(teacher, Recorded):
        return None
    spec = spec_of(teacher)
    said = {key: value for key, value in spec["init_args"].items() if key not in LOCATIONS}
    text = json.dumps([spec["class_path"], said], sort_keys=True)
    return f"{type(teacher).__name__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class EntityOracle(Recorded):
    """Knows the entities of a language, and errs as language models do.

    Whether it errs is a function of the text and the name, so that asking again gives the same.

    Args:
        language: The language.
        misses: Share of the entities that it does not find.
        wrong: Share of those it finds that it gives the other type.
        invented: Share of the texts in which it names something that is not there.
    """

    def __init__(
        self,
        language: EntityLanguage,
        misses: Probability = 0.3,
        wrong: Probability = 0.1,
        invented: Probability = 0.1,
    ) -> None:
        self.language = language
        self.misses, self.wrong, self.invented = misses, wrong, invented

    def answer(self, request: Mapping[str, Any]) -> list[list[str]]:
        """The entities of a text: strings with their types."""
        text, types = str(request["text"]), self.language.types
        found = []
        for string, kind in self.language.entities(text):
            if _chance(text, string, "miss") < self.misses:
                continue
            if _chance(text, string, "type") < self.wrong:
                kind = types[(types.index(kind) + 1) % len(types)]
            found.append([string, kind])
        if _chance(text, "", "invent") < self.invented:
            found.append(["zzyzx", types[0]])
        return found


def _chance(*parts: str) -> float:
    """A number in [0, 1) that belongs to these words."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class ChatServer(Recorded):
    """A model behind a server with OpenAI's ``/chat/completions``, asked for entities as JSON.

    Args:
        url: Up to and without ``/chat/completions``, such as ``http://localhost:8000/v1``.
        model: Name of the model there.
        key_variable: Environment variable that holds the key; it is written nowhere.
        instruction: What the model is told; ``{types}`` and ``{text}`` stand for what is asked.
        seconds: How long an answer may take.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str = "OPENAI_API_KEY",
        instruction: str = (
            "Find all entities of the types {types} in the text. Answer with a JSON list of "
            '["string", "type"] alone.\n{text}'
        ),
        seconds: PositiveFloat = 60.0,
    ) -> None:
        self.url, self.model, self.key_variable = url.rstrip("/"), model, key_variable
        self.instruction, self.seconds = instruction, seconds

    def answer(self, request: Mapping[str, Any]) -> list[list[str]]:
        """The entities that the model names; none where it answers no list.

        Raises:
            InputError: The server does not answer, or refuses.
        """
        asked = self.instruction.replace("{types}", ", ".join(request["types"]))
        message = {"role": "user", "content": asked.replace("{text}", str(request["text"]))}
        body = {"model": self.model, "messages": [message], "temperature": 0}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        call = urllib.request.Request(
            f"{self.url}/chat/completions", json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(call, timeout=self.seconds) as reply:
                said = json.loads(reply.read())["choices"][0]["message"]["content"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{self.url}: expected an answer of a server ({reason}).") from None
        return entities_in(str(said))


def entities_in(said: str) -> list[list[str]]:
    """The JSON list of pairs in what a model said; empty where there is none."""
    start, stop = said.find("["), said.rfind("]")
    try:
        found = json.loads(said[start : stop + 1])
    except (ValueError, RecursionError):
        return []
    return [
        [str(pair[0]), str(pair[1])]
        for pair in (found if isinstance(found, list) else [])
        if isinstance(pair, list) and len(pair) == 2
    ]
