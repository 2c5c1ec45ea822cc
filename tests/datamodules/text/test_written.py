import pytest
import torch

from datamodules.text.oracle_language import OracleLanguageDataModule
from datamodules.text.written import WrittenDataModule
from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


def written(*writers, **kwargs):
    language = HMMLanguage(3, 5, 6)
    return WrittenDataModule(
        OracleLanguageDataModule(language, 60, 20, prompt=2), writers, **kwargs
    )


def test_rows_are_written_behind_their_prompts_in_turns_and_the_same_each_time():
    first, second = (OracleAutoregressive(HMMLanguage(3, 5, 6, seed=each)) for each in (1, 2))
    mixed = written(first, second)
    training, heldout = mixed.parts
    own_training, own_heldout = mixed.data.parts
    assert torch.equal(training["tokens"][:, :2], own_training["tokens"][:, :2])
    assert not torch.equal(training["tokens"], own_training["tokens"])
    assert torch.equal(heldout["tokens"], own_heldout["tokens"])
    assert training["tokens"].max() < 5
    # A row is a function of its number, its writer and the seed.
    alone = written(first).parts[0]["tokens"]
    assert torch.equal(training["tokens"][::2], alone[::2])
    assert not torch.equal(training["tokens"][1::2], alone[1::2])
    assert not torch.equal(written(first, writing=1).parts[0]["tokens"], alone)
    assert mixed.law() is not None


def test_a_writer_of_the_languages_own_law_writes_the_language():
    language = HMMLanguage(3, 5, 6)
    data = OracleLanguageDataModule(language, 4000, 1)
    tokens = WrittenDataModule(data, [OracleAutoregressive(language)]).parts[0]["tokens"]
    pairs = torch.bincount(tokens[:, 2] * 5 + tokens[:, 3], minlength=25) / 4000
    assert float((pairs - language.bigram().flatten()).abs().sum() / 2) < 0.04


def test_writers_of_other_tokens_are_refused():
    with pytest.raises(InputError, match="expected models of the next of 5 tokens, found 4"):
        written(OracleAutoregressive(HMMLanguage(3, 4, 6)))
    with pytest.raises(InputError, match="writers: expected at least one, found none"):
        written()
    with pytest.raises(InputError, match="found Linear"):
        written(torch.nn.Linear(1, 1))
