import json

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from datamodules.text.python_retrieval import PythonRetrievalDataModule, documentation
from datamodules.text.ranking import RankingFilesDataModule
from kdlight.callbacks.language.retrieval_report import RetrievalReport
from kdlight.errors import InputError
from kdlight.networks.text.encoder import TransformerEncoder, transformer_encoder
from kdlight.storage.tokenizers import HashedWordsTokenizer
from kdlight.teachers import sentence_scores
from kdlight.teachers.sentence_scores import mean_scores, sentence_vectors
from tests.exactness.cases import CASES
from tests.exactness.harness import fit

BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


class Teacher:
    """A vector of a text by its length; counts what it was asked."""

    width = 2

    def __init__(self, name="a"):
        self.name, self.asked = name, []

    def identity(self):
        return {"weights": self.name}

    def __call__(self, texts):
        self.asked += texts
        angle = torch.tensor([len(text) / 40 for text in texts])
        vectors = 3 * torch.stack([angle.cos(), angle.sin()], dim=1)
        return type("States", (), {"sentence": vectors})


def lines(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


ROW = {"query": "a b", "positive": "b c", "negatives": ["d", "e f"], "scores": [3, 1, 0.5]}


def test_vectors_are_asked_once_and_another_teacher_finds_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_scores, "PART", 2)
    teacher, texts = Teacher(), ["a" * n for n in range(1, 6)]
    whole = sentence_vectors(teacher, texts, tmp_path)
    assert torch.allclose(whole.norm(dim=1), torch.ones(5))
    sorted(tmp_path.iterdir())[0].unlink()
    again = Teacher()
    assert torch.equal(sentence_vectors(again, texts, tmp_path), whole)
    assert len(again.asked) <= 2
    other = Teacher("b")
    sentence_vectors(other, texts, tmp_path)
    assert other.asked == texts
    (tmp_path / sorted(tmp_path.iterdir())[0].name).write_bytes(b"x")
    with pytest.raises(InputError, match="truncated or damaged: delete the file"):
        for each in (Teacher(), Teacher("b")):
            sentence_vectors(each, texts, tmp_path)
    one, two = whole, whole.flip(1)
    pair = torch.tensor([0]), torch.tensor([4])
    expected = ((one[0] * one[4]).sum() + (two[0] * two[4]).sum()) / 2
    assert torch.allclose(mean_scores([one, two], *pair), expected)
    assert torch.equal(mean_scores([one, one], *pair), mean_scores([one], *pair))


def test_a_file_of_scores_is_read_row_by_row(tmp_path):
    short = {**ROW, "query": "g", "positive": "h", "negatives": ["i"], "scores": [1, 2]}
    path = lines(tmp_path, [ROW, short, {**ROW, "query": "x y"}])
    data = RankingFilesDataModule(path, HashedWordsTokenizer(50), length=4, heldout=0.3)
    training, found = data.parts
    assert sorted(training["passages_mask"].any(dim=2).sum(dim=1).tolist()) in ([2, 3], [3, 3])
    assert found.scores is None
    assert len(found.relevant) == 1
    ((held,),) = [data.rows()[1]]
    ids = torch.tensor(data.tokenizer.encode(held.passages[0]))
    assert torch.equal(found.passages[found.relevant[0]][: len(ids)], ids)
    asked = RankingFilesDataModule(
        path, HashedWordsTokenizer(50), 4, [Teacher()], folder=str(tmp_path / "v"), heldout=0.3
    )
    assert asked.parts[1].scores is not None
    # Of the two passages of a query, the nearer in length has the larger cosine.
    assert (asked.parts[0]["scores"] <= 20.0001).all()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2: expected JSON"),
        ("[" * 100_000, "line 2: expected JSON"),
        ([1], "line 2: expected a query, a positive and a list of negatives"),
        ({**ROW, "negatives": []}, "line 2: expected a query, a positive"),
        ({**ROW, "query": " "}, "line 2: expected a query, a positive"),
        ({**ROW, "scores": [1, 2]}, r"line 2: expected 3 scores, one a passage, found \[1, 2\]"),
        ({**ROW, "scores": None}, "line 2: expected 3 scores, one a passage, found null"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, said):
    data = RankingFilesDataModule(lines(tmp_path, [ROW, row]), HashedWordsTokenizer(50))
    with pytest.raises(InputError, match=said):
        data.setup()


def test_documentation_gives_queries_whose_passages_are_their_own(tmp_path):
    found = documentation()
    assert len(found) > 1500
    assert all(query not in passage for query, passage in found[:50])
    with pytest.raises(InputError, match="at least one teacher, found 0.2 and 0"):
        PythonRetrievalDataModule(HashedWordsTokenizer(), [])


def test_a_run_reports_what_is_found(tmp_path):
    case = CASES["ranking_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    fit(case.make(), case.data(), [RetrievalReport()], logger=logger)
    (student,) = json.loads((tmp_path / "summary.json").read_text())
    assert student["model"] == "student"
    assert 0 <= student["mrr_10"] <= student["ndcg_10"] <= student["recall_10"] <= 1
    with pytest.raises(InputError, match="ends in encoders and data of queries"):
        fit(CASES["language_training"].make(), case.data(), [RetrievalReport()])


def test_an_encoder_of_transformers_is_read_from_its_folder(tmp_path):
    source = TransformerEncoder(BERT).eval()
    source.whole().save_pretrained(tmp_path / "encoder")
    read = transformer_encoder(str(tmp_path / "encoder")).eval()
    tokens = torch.randint(50, (3, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) < torch.tensor([[5], [2], [0]])
    assert torch.equal(read(tokens, mask), source(tokens, mask))
    assert read(tokens, mask)[2].abs().max() == 0
    with pytest.raises(InputError, match="found 'gpt5'"):
        TransformerEncoder({"model_type": "gpt5"})
