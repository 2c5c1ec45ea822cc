"""What codes say about phones and speakers: closed forms, held-out honesty, ranks."""

import math

import pytest
import torch

from kdlight.errors import InputError
from kdlight.metrics.tokens.information import (
    folds_within,
    held_out_folds,
    linear_probe,
    one_hot_rows,
    token_information,
)
from kdlight.metrics.tokens.meaning import TokenMeaning


def drawn(high: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(high, (count,), generator=torch.Generator().manual_seed(seed))


def test_codes_that_are_the_phones_know_everything() -> None:
    phones, fold = drawn(4, 6000, 0), drawn(5, 6000, 1)
    found = token_information(phones, phones, fold)
    assert found.share > 0.99
    assert found.entropy == pytest.approx(2, abs=0.01)
    # Which number a phone has does not matter.
    assert token_information(7 - phones, phones, fold).share == pytest.approx(found.share)


def test_codes_that_mean_nothing_score_nothing_however_many_there_are() -> None:
    phones, fold = drawn(40, 6000, 0), drawn(5, 6000, 1)
    for size in (8, 256, 4096):
        codes = drawn(size, 6000, size)
        assert abs(token_information(codes, phones, fold).share) < 0.01
    # The plug-in estimate would be fooled: each of these codes is seen about once.
    pairs = torch.stack([codes, phones]).unique(dim=1).shape[1]
    assert math.log2(6000 / pairs) < 0.1


def test_a_code_of_the_half_has_half_the_bits() -> None:
    phones, fold = drawn(4, 20_000, 0), drawn(5, 20_000, 1)
    assert token_information(phones // 2, phones, fold).share == pytest.approx(0.5, abs=0.01)


def test_constant_phones_have_no_share() -> None:
    fold = drawn(3, 100, 0)
    constant = torch.zeros(100, dtype=torch.int64)
    assert math.isnan(token_information(drawn(4, 100, 1), constant, fold).share)


def test_folds_never_split_a_speaker_and_spread_utterances() -> None:
    speakers = drawn(11, 500, 0)
    fold = held_out_folds(speakers, 5)
    assert all(len(fold[speakers == each].unique()) == 1 for each in speakers.unique())
    assert len(fold.unique()) == 5
    labels, items = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([5, 6, 6, 1, 2, 3, 4])
    assert folds_within(labels, items, 3).tolist() == [0, 1, 1, 0, 1, 2, 0]
    with pytest.raises(InputError, match="folds: expected 3 to 11"):
        held_out_folds(speakers, 12)
    with pytest.raises(InputError, match="label 1: expected at least 2 utterances"):
        folds_within(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), 3)


def test_a_probe_reads_what_is_there_and_no_more() -> None:
    codes, fold = drawn(6, 1500, 0), drawn(3, 1500, 1)
    rows = one_hot_rows(codes[:, None], 6)
    assert rows.shape == (1500, 6)
    assert linear_probe(rows, codes % 3, fold).accuracy == 1
    found = linear_probe(rows, drawn(3, 1500, 5), fold)
    assert found.accuracy == pytest.approx(1 / 3, abs=0.05)
    assert found.chance == pytest.approx(1 / 3, abs=0.05)


def talk(metric: TokenMeaning, items: list[int]) -> TokenMeaning:
    """Level 1 is the phone, level 2 the speaker, level 3 nothing."""
    for item in items:
        phones = drawn(5, 60, item)
        speaker = torch.full((60,), item % 6)
        codes = torch.stack([phones, speaker, drawn(8, 60, 100 + item)])
        phones = phones.masked_fill(torch.arange(60) < 3, -1)
        metric.update(codes, phones, item % 6, item)
    return metric


def test_each_level_is_read_by_itself() -> None:
    found = talk(TokenMeaning(3, 8, folds=3), list(range(24))).compute()
    assert found["frames"].item() == 24 * 57
    information, accuracy, speaker = (
        found[name].tolist() for name in ("phone_information", "phone_accuracy", "speaker_accuracy")
    )
    assert information[0] > 0.97
    assert max(map(abs, information[1:])) < 0.05
    assert accuracy[0] == 1
    assert max(accuracy[1:]) < found["phone_chance"].item() + 0.1
    assert speaker[1] == 1
    assert speaker[0] < 0.6
    assert found["speaker_chance"].item() == pytest.approx(1 / 6, abs=0.05)


def test_the_order_of_ranks_does_not_matter() -> None:
    one = talk(TokenMeaning(3, 8, folds=3), list(range(24)))
    other = talk(TokenMeaning(3, 8, folds=3), [*range(1, 24, 2), *range(0, 24, 2)])
    for name, values in one.compute().items():
        assert torch.equal(other.compute()[name], values), name
    assert torch.equal(one.information(), one.compute()["phone_information"])


def test_too_few_speakers_give_nan_and_not_zero() -> None:
    found = talk(TokenMeaning(3, 8, folds=5), [0, 1]).compute()
    for name in ("phone_information", "phone_accuracy", "speaker_accuracy", "phone_chance"):
        assert found[name].isnan().all(), name
    assert TokenMeaning(3, 8).compute()["frames"].item() == 0


def test_what_does_not_fit_is_refused() -> None:
    metric = TokenMeaning(2, 8)
    with pytest.raises(InputError, match=r"codes and phones: expected \(2, F\)"):
        metric.update(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(4), 0, 0)
    with pytest.raises(InputError, match="codes: expected 0 to 7, found 8 to 8"):
        metric.update(torch.full((2, 4), 8), torch.zeros(4), 0, 0)
    with pytest.raises(InputError, match="folds: expected at least 3"):
        TokenMeaning(2, 8, folds=2)
