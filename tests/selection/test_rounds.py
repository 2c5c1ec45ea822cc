"""Spans, critics, the ledger, and teachers that answer."""

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from kdlight.discrete.entities import EntityLanguage
from kdlight.errors import InputError
from kdlight.selection.critics import (
    AtLeast,
    InText,
    KnownTypes,
    LengthRatio,
    OneType,
    SameNumbers,
    passes,
)
from kdlight.selection.labelling import InOrder, Labelling, LeastSure
from kdlight.selection.ledger import Ledger
from kdlight.selection.spans import Span, agreement, aligned, spans_of, tags_of
from kdlight.teachers.answering import ChatServer, EntityOracle, entities_in, name_of

TYPES = ["person", "place"]


def test_gold_spans_to_strings_and_back_are_the_same():
    language = EntityLanguage(20, 20)
    for heldout in (False, True):
        for text in language.draw(100, seed=1, heldout=heldout):
            entities = language.entities(text)
            spans = aligned(text, entities)
            assert {(text[a:b], kind) for a, b, kind in spans} == set(entities)
            assert spans_of(tags_of(spans, len(text), TYPES), TYPES) == spans


def test_all_occurrences_and_whole_words_alone():
    found = aligned("anna met ann and anna", [("anna", "person"), ("ann", "place"), ("x", "place")])
    assert found == [Span(0, 4, "person"), Span(9, 12, "place"), Span(17, 21, "person")]
    assert aligned("new york", [("york", "place"), ("new york", "place")]) == [(0, 8, "place")]


def test_tags_that_touch_and_tags_that_are_broken():
    touching = [Span(0, 2, "person"), Span(2, 4, "person"), Span(4, 5, "place")]
    assert spans_of(tags_of(touching, 6, TYPES), TYPES) == touching
    assert spans_of([2, 2, 4, 0, 4], TYPES) == [(0, 2, "person"), (2, 3, "place"), (4, 5, "place")]


def test_agreement_by_hand():
    gold = [[Span(0, 2, "person"), Span(5, 8, "place")], [Span(1, 3, "person")]]
    found = [[Span(0, 2, "person"), Span(5, 7, "place")], [Span(1, 3, "person")]]
    assert agreement(found, gold) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert agreement([[]], [[]]) == (0, 0, 0)


CASES = [
    ("anna came", [("anna", "person")]),
    ("anna came", [("zz", "person")]),
    ("anna came", [("anna", "person"), ("anna", "place")]),
    ("anna came", []),
    ("anna came", [("anna", "thing")]),
]


def test_critics_do_not_depend_on_their_order_and_are_monotone():
    critics = [InText(), KnownTypes(TYPES), OneType(), AtLeast(1)]
    kept = [case for case in CASES if passes(critics, *case) is None]
    assert kept == CASES[:1]
    assert [case for case in kept if passes(critics, *case) is None] == kept
    for order in itertools.permutations(critics):
        assert [case for case in CASES if passes(order, *case) is None] == kept
    counts = [sum(AtLeast(n)(*case) for case in CASES) for n in range(4)]
    assert counts == sorted(counts, reverse=True)
    assert passes(critics, *CASES[1]) == "InText"


def test_critics_of_new_texts():
    assert LengthRatio(0.8, 1.5)("abcd", "abcde")
    assert not LengthRatio(0.8, 1.5)("abcd", "ab")
    assert SameNumbers()("3 of 40", "40, of which 3")
    assert not SameNumbers()("3 of 40", "40 of them")  # one was lost
    assert not SameNumbers()("of 40", "3 of 40")


def test_a_ledger_pays_once_and_survives_a_kill(tmp_path: Path):
    path = tmp_path / "deep" / "ledger.jsonl"
    calls: list[str] = []

    def call(request):
        calls.append(request["text"])
        return [[request["text"], "person"]]

    ledger = Ledger(path, budget=3)
    for text in ("a", "b", "a"):
        assert ledger.ask({"text": text}, call) == [[text, "person"]]
    assert (calls, ledger.calls, ledger.left) == (["a", "b"], 2, 1)
    # Killed while it wrote the third line.
    with path.open("a") as stream:
        stream.write('{"key": "x", "requ')
    again = Ledger(path, budget=3)
    assert again.left == 1
    assert again.knows({"text": "b"})
    again.ask({"text": "c"}, call)
    assert calls == ["a", "b", "c"]
    with pytest.raises(InputError, match="budget: expected calls that are left, found all 3 made"):
        Ledger(path, budget=3).ask({"text": "d"}, call)
    assert Ledger(path, budget=3).ask({"text": "c"}, call) == [["c", "person"]]
    assert len(path.read_text().splitlines()) == 3
    path.write_text("nonsense\n")
    with pytest.raises(InputError, match="line 1: expected JSON"):
        Ledger(path)


def written(*rows, end="\n"):
    return "\n".join(map(json.dumps, rows)) + end


def answered(text, answer, **others):
    ledger = Ledger(None)
    ledger.ask({"text": text}, lambda request: answer)
    return {
        "key": next(iter(ledger.answers)),
        "request": {"text": text},
        "answer": answer,
        **others,
    }


A, B = answered("a", [["a", "person"]]), answered("b", [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (written(A, B, A | {"answer": []}), "line 3: expected one answer to a question"),
        (written(A, B | {"key": A["key"]}), "line 2: expected the key of its question"),
        (written(A, B | {"answer": 3}), "line 2: answer: expected a list of strings with their"),
        (written(A, B | {"answer": None}), "line 2: answer: expected a list"),
        (written(A, B | {"answer": "none"}), "line 2: answer: expected a list"),
        (written(A, B | {"answer": [["a", "b", "c"]]}), "line 2: answer: expected a list"),
        (written(A, B | {"answer": [["a", 3]]}), "line 2: answer: expected a list"),
        (written(A, B | {"teacher": "other"}), r"line 2: expected answers of this teacher \(own\)"),
        (b"\xe9" + written(A).encode(), "line 1: expected JSON"),
        (written(A).encode().replace(b"person", b"p\xe9rson"), "line 1: expected JSON"),
    ],
)
def test_lines_of_a_ledger_that_are_wrong(content, said, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said):
        Ledger(path, None, Labelling(["person"]).entities, "own")


def test_nothing_of_a_ledger_is_lost(tmp_path):
    path = tmp_path / "ledger.jsonl"
    # A whole line without its end was paid for; a byte order mark is no damage.
    path.write_text("\ufeff" + written(A, B, end=""), encoding="utf-8")
    before = path.read_bytes()
    ledger = Ledger(path)
    assert ledger.answers.keys() == {A["key"], B["key"]}
    assert path.read_bytes() == before  # read, not written
    ledger.ask({"text": "c"}, lambda request: [])
    assert len(Ledger(path).answers) == 3
    path.write_bytes(before[:-9])
    ledger = Ledger(path, teacher="own")
    assert ledger.answers.keys() == {A["key"]}
    assert path.read_bytes() == before[:-9]
    ledger.ask({"text": "b"}, lambda request: [])
    assert path.read_text("utf-8-sig") == written(A, {"teacher": "own", **B})


def test_a_teacher_is_known_by_what_it_answers():
    language = EntityLanguage(40, 10)
    names = [name_of(EntityOracle(language, misses=each)) for each in (0.1, 0.1, 0.2)]
    assert names[0] == names[1] != names[2]
    servers = [name_of(ChatServer(f"http://{each}", "m")) for each in ("a", "b")]
    assert servers[0] == servers[1] != name_of(ChatServer("http://a", "n"))
    assert name_of(object()) is None


def test_an_oracle_errs_as_often_as_it_says():
    language = EntityLanguage(400, 10)
    texts = language.draw(2000, seed=2)
    gold = [aligned(text, language.entities(text)) for text in texts]

    def asked(**faults):
        teacher = EntityOracle(language, **faults)
        answers = [teacher.answer({"text": text}) for text in texts]
        assert answers[:50] == [teacher.answer({"text": text}) for text in texts[:50]]
        return agreement(
            [aligned(t, map(tuple, a)) for t, a in zip(texts, answers, strict=True)], gold
        )

    assert asked(misses=0.0, wrong=0.0, invented=0.5) == (1, 1, 1)
    missed = asked(misses=0.3, wrong=0.0, invented=0.0)
    assert missed.precision == 1
    assert missed.recall == pytest.approx(0.7, abs=0.03)
    assert asked(misses=0.0, wrong=0.1, invented=0.0).precision == pytest.approx(0.9, abs=0.02)


def test_labelling_makes_tags_of_what_is_in_the_text():
    labelling = Labelling(TYPES, [AtLeast(1)])
    assert labelling.request("x") == {"text": "x", "types": TYPES}
    tags = labelling.tags("bo saw bo", [["bo", "place"], ["zz", "person"], ["saw", "thing"]], 11)
    assert tags == [3, 4, 0, 0, 0, 0, 0, 3, 4, 0, 0]
    assert labelling.judged("bo", []) == "AtLeast"


def test_the_least_sure_rows_are_chosen():
    logits = torch.tensor([[[5.0, 0]] * 2, [[0.1, 0]] * 2, [[5.0, 0], [0.2, 0]]])
    rows, mask = torch.arange(3)[:, None].expand(3, 2), torch.ones(3, 2, dtype=torch.bool)
    student = torch.nn.Module()
    student.forward = lambda tokens: logits[tokens[:, 0]]
    assert LeastSure()(student, rows, mask, 2).tolist() == [1, 2]
    mask[2, 1] = False
    assert LeastSure()(student, rows, mask, 1).tolist() == [1]
    assert InOrder()(student, rows, mask, 2).tolist() == [0, 1]


class Handler(BaseHTTPRequestHandler):
    said = '[["bo", "person"]]'
    seen: dict = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).seen = {"path": self.path, "body": json.loads(body), "headers": self.headers}
        reply = json.dumps({"choices": [{"message": {"content": self.said}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[str]:
    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    made.server_close()


def test_a_server_is_asked_as_openai_is(server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    teacher = ChatServer(server, "small", key_variable="SOME_KEY")
    request = Labelling(TYPES).request("bo {types} said")
    assert teacher.answer(request) == [["bo", "person"]]
    assert Handler.seen["path"] == "/v1/chat/completions"
    assert Handler.seen["headers"]["Authorization"] == "Bearer secret"
    message = Handler.seen["body"]["messages"][0]["content"]
    assert "person, place" in message
    assert message.endswith("bo {types} said")
    assert "secret" not in json.dumps(teacher._init_args)
    with pytest.raises(InputError, match="expected an answer of a server"):
        ChatServer("http://127.0.0.1:9/v1", "small").answer(request)


def test_what_a_model_says_beside_its_list_is_left_out():
    assert entities_in('Sure: [["a]b", "person"], 3, ["x"]] as asked') == [["a]b", "person"]]
    assert entities_in("none") == []
