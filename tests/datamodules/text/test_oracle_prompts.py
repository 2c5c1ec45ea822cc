import pytest

from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


def test_a_prompt_is_given_and_not_scored():
    data = OracleLanguageDataModule(HMMLanguage(3, 5, 6), 4, 3, prompt=2)
    for part in data.parts:
        assert part["mask"].tolist() == [[False, False, True, True, True, True]] * len(part["mask"])
    with pytest.raises(InputError, match="prompt: expected less than the sentence's 6 tokens"):
        OracleLanguageDataModule(HMMLanguage(3, 5, 6), 4, 3, prompt=6)
