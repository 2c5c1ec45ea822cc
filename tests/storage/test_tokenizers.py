import json

import pytest

from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError
from kdlight.storage.tokenizers import (
    UNKNOWN,
    ByteTokenizer,
    CharacterTokenizer,
    FileTokenizer,
    Reading,
    identity_of,
)


@pytest.fixture(scope="module")
def word_file(tmp_path_factory):
    import tokenizers

    words = {"<unk>": 0, "</s>": 1, "ein": 2, "Haus": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["<unk>", "</s>"])
    made.enable_truncation(1)
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    made.save(str(path))
    return path


def test_bytes_and_characters_there_and_back():
    text = "naïve\n€"
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text
    assert ByteTokenizer().decode([72, 105, 256, 33]) == "Hi"
    assert ByteTokenizer().decode([0xC3]) == UNKNOWN
    made = CharacterTokenizer("abc")
    assert (made.size, made.end, made.encode("cab?")) == (5, 4, [2, 0, 1, 3])
    assert made.decode([2, 3, 4, 0]) == f"c{UNKNOWN}"
    with pytest.raises(InputError, match="each once, found 'a' twice"):
        CharacterTokenizer("aba")
    assert made.lacks(f"c?a?!{UNKNOWN}") == ["?", "!"]  # who writes U+FFFD means it
    assert ByteTokenizer().lacks(text) == []


def test_a_file_s_vocabulary_travels_without_the_file(word_file):
    made = FileTokenizer(str(word_file), end="</s>")
    assert (made.size, made.end) == (4, 1)
    assert made.encode("ein Haus nein") == [2, 3, 0]  # all of it, though the file says to cut
    assert made.decode([2, 3, 1, 2]) == "ein Haus"
    assert made.lacks("nein Haus <unk> nein") == ["nein"]
    carried = build(json.loads(json.dumps(spec_of(made.portable()))))
    assert carried.encode("Haus") == [3]
    assert identity_of(carried) == identity_of(made) != identity_of(ByteTokenizer())


def test_what_a_vocabulary_lacks_is_counted_and_named(word_file):
    reading = Reading(CharacterTokenizer("abc"))
    assert [reading.encode(text) for text in ("a?", "b!?", UNKNOWN)] == [[0, 3], [1, 3, 3], [3]]
    said = "3 of 6 tokens stand for 2 that the tokenizer does not know: '?', '!'"
    assert reading.lacking() == said
    words = Reading(FileTokenizer(str(word_file)))
    words.encode("ein Haus")
    assert words.lacking() is None
    words.encode("nein")
    assert words.lacking() == "1 of 3 tokens stand for 1 that the tokenizer does not know: 'nein'"
    of_bytes = Reading(ByteTokenizer())
    of_bytes.encode("\u20ac")
    assert of_bytes.lacking() is None


def test_a_folder_of_transformers_says_what_ends_a_text(word_file, tmp_path):
    import transformers

    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(word_file), eos_token="</s>")
    fast.save_pretrained(tmp_path)
    assert FileTokenizer(str(tmp_path)).end == 1


def test_what_is_no_tokenizer_is_said_in_a_sentence(word_file, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        FileTokenizer(str(tmp_path / "none.json"))
    (tmp_path / "odd.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match=r"odd.json: tokenizer: expected a definition of one \("):
        FileTokenizer(str(tmp_path / "odd.json"))
    with pytest.raises(InputError, match=r"expected a tokenizer of transformers \("):
        FileTokenizer(str(tmp_path))
    lost = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "gone"}}
    (tmp_path / "lost.json").write_text(json.dumps(lost))
    with pytest.raises(InputError, match=r"lost.json: tokenizer: expected a definition of one \("):
        FileTokenizer(str(tmp_path / "lost.json"))
    with pytest.raises(InputError, match="end: expected a word of the vocabulary, found '<eos>'"):
        FileTokenizer(str(word_file), end="<eos>")


def test_half_a_surrogate_pair_is_no_character(word_file):
    found = FileTokenizer(str(word_file))
    assert found.encode("\ud800") == found.encode("\ufffd")
