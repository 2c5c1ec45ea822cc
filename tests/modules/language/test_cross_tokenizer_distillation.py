import pytest
import tokenizers
import torch

from datamodules.text.oracle_language import OracleLanguageDataModule
from datamodules.text.text_files import TextFilesDataModule
from datamodules.text.two_tokenizers import TwoTokenizersDataModule, before
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.losses.language.pointwise import ForwardKL, SortedDistance
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.tokenizers import ByteTokenizer, CharacterTokenizer, SubwordTokenizer
from kdlight.training.optim import Optimization
from modules.language.next_token.cross_tokenizer_distillation import CrossTokenizerDistillation
from modules.language.next_token.logit_distillation import LogitDistillation
from tests.exactness.language_cases import LENGTH, V, network


def words() -> SubwordTokenizer:
    """Letters, and the pairs ``ab`` and ``cd``."""
    merges = {"a": 0, "b": 1, "c": 2, "d": 3, "ab": 4, "cd": 5, "</s>": 6}
    model = tokenizers.models.BPE(merges, [("a", "b"), ("c", "d")])
    made = tokenizers.Tokenizer(model)
    made.decoder = tokenizers.decoders.Fuse()
    return SubwordTokenizer(made.to_str(), "</s>")


def files(tmp_path, text="abcdab\n", **kwargs) -> TextFilesDataModule:
    path = tmp_path / "texts.txt"
    path.write_text(text * 4)
    letters = CharacterTokenizer("abcd\n")
    return TextFilesDataModule(
        str(path), letters, 8, lines=True, layout="padded", batch_size=2, **kwargs
    )


def test_places_meet_behind_the_same_text(tmp_path):
    data = TwoTokenizersDataModule(files(tmp_path), words(), 6)
    training, _ = data.parts
    # ab cd ab </s> behind 0, 2, 4 and 6 letters.
    assert training["teacher_input"][0].tolist() == [4, 5, 4, 6, 0, 0]
    assert training["meeting"][0].tolist() == [0, -1, 1, -1, 2, -1, 3, -1]
    assert before(words(), [4, 5]) == ["", "ab"]
    assert len(data.judges()) == 1
    assert data.law() is None
    assert "meeting" not in next(iter(data.heldout_dataloader()))
    short = TwoTokenizersDataModule(files(tmp_path), words(), 2).parts[0]
    assert short["meeting"][0].tolist() == [0, -1, 1, -1, -1, -1, -1, -1]


def test_a_character_of_several_bytes_meets_before_and_behind_it_alone(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("aéb\naéb\n", encoding="utf-8")
    letters = CharacterTokenizer("abé")
    inner = TextFilesDataModule(str(path), letters, 4, lines=True, layout="padded")
    assert TwoTokenizersDataModule(inner, ByteTokenizer(), 5).parts[0]["meeting"].tolist() == [
        [0, 1, 3, 4]
    ]


def test_a_teacher_with_the_students_own_tokens_meets_everywhere(tmp_path):
    data = TwoTokenizersDataModule(files(tmp_path), CharacterTokenizer("abcd\n"), 8)
    training, _ = data.parts
    assert training["meeting"][0, :7].tolist() == list(range(7))
    # Renamed tokens are no other law to it: the distance is blind to which token is which.
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    mask = torch.ones(2, 5, dtype=torch.bool)
    found = SortedDistance()(logits, logits[..., torch.randperm(7)], mask.long(), mask)
    assert found.abs().max() < 1e-12


def test_by_hand_over_unlike_vocabularies():
    p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()[None, None]
    q = torch.tensor([0.1, 0.5, 0.3, 0.1], dtype=torch.float64).log()[None, None]
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert float(SortedDistance()(q, p, mask.long(), mask)) == pytest.approx(0.4)
    assert float(SortedDistance()(p, q, mask.long(), mask)) == pytest.approx(0.4)


def model(vocabulary, seed=1):
    made = (
        TokenTransformer(vocabulary, 8, 1, 2, causal=True)
        if vocabulary != V
        else network(seed, causal=True)
    )
    return AutoregressiveModel(made, vocabulary, LENGTH)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(InputError, match="CrossTokenizerDistillation learns from a teacher of an"):
        LogitDistillation(model(6), model(V), ForwardKL(), Optimization(lr=1e-3))
    with pytest.raises(InputError, match="expected a model of next tokens, found Identity"):
        CrossTokenizerDistillation(torch.nn.Identity(), model(V), Optimization(lr=1e-3))
    oracle = OracleLanguageDataModule(HMMLanguage(3, V, LENGTH), 4, 2)
    with pytest.raises(InputError, match="text, which two tokenizers can read, found Oracle"):
        TwoTokenizersDataModule(oracle, words(), 4)
    with pytest.raises(InputError, match="cut somewhere at the same place, found none"):
        _ = TwoTokenizersDataModule(files(tmp_path), CharacterTokenizer("xy"), 4).parts
    with pytest.raises(InputError, match="teacher_length: expected at least 1, found 0"):
        TwoTokenizersDataModule(files(tmp_path), words(), 0)
