"""Shares that follow the student: the arithmetic, the draws, a resumed run, and ranks."""

from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from datamodules.text.mixed import MixedDataModule
from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.callbacks.language.domain_report import golden_kl
from kdlight.callbacks.language.mixture import FollowStudent, nats_of
from kdlight.discrete.autoregressive import OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.selection.mixture import first_shares, next_shares, perplexity_ratios
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.exactness.language_cases import LENGTH, V, logit_distillation


def domain(seed: int, count: int = 40) -> OracleLanguageDataModule:
    return OracleLanguageDataModule(HMMLanguage(3, V, LENGTH, seed), count, 10, batch_size=12)


def mixed(batch_size: int = 12, **kwargs) -> MixedDataModule:
    domains = {"a": domain(0), "b": domain(1), "c": domain(2, 30)}
    return MixedDataModule(domains, measured=10, batch_size=batch_size, steps_per_epoch=7, **kwargs)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [((3, 1.5, 1.2), (0.612, 0.199, 0.189)), ((1.3, 1.15, 1.05), (0.381, 0.323, 0.296))],
)
def test_the_fixed_point(ratios, expected):
    shares = torch.full((3,), 1 / 3)
    for _ in range(200):
        shares = next_shares(shares, torch.tensor(ratios))
        assert float(shares.sum()) == pytest.approx(1, abs=1e-12)
        assert float(shares.min()) >= 0.5 / 3 - 1e-12
    assert shares.tolist() == pytest.approx(expected, abs=6e-4)


def test_equal_ratios_are_equal_shares_and_ratios_are_cut_off():
    assert first_shares(torch.full((4,), 1.7)).tolist() == pytest.approx([0.25] * 4)
    kept = next_shares(torch.full((4,), 0.25), torch.full((4,), 2.0))
    assert kept.tolist() == pytest.approx([0.25] * 4)
    by_hand = torch.tensor([2.0, 1.0]).exp()
    assert first_shares(torch.tensor([2.0, 1.0])).tolist() == pytest.approx(
        (by_hand / by_hand.sum()).tolist()
    )
    ratios = perplexity_ratios(torch.tensor([9.0, 1.0]), torch.tensor([1.0, 1.0]))
    assert ratios.tolist() == [10.0, 1.0]


def test_rows_come_by_the_shares_and_every_row_in_turn():
    data = mixed(batch_size=100, shares=[0.5, 0.3, 0.2])
    loader = data.make_train_loader()
    found = torch.cat([loader.next_batch()["domain"] for _ in range(20) if _bump(loader)])
    counts = torch.bincount(found, minlength=3)
    assert chisquare(counts.numpy(), [1000, 600, 400]).pvalue > 1e-3
    # Thirty rows of a domain of thirty are all of them.
    loader = mixed(batch_size=30, shares=[1.0, 0.0, 0.0]).make_train_loader()
    rows = sorted(map(tuple, loader.next_batch()["tokens"].tolist()))
    assert rows == sorted(map(tuple, data.domains["a"].parts[0]["tokens"][:-10].tolist()))


def test_the_first_rows_that_are_held_out_are_of_all_domains():
    data = mixed()
    data.setup("fit")
    domains = data.parts[1]["domain"]
    count = int(domains.max()) + 1
    assert domains[: 2 * count].tolist() == [*range(count)] * 2


def _bump(loader) -> bool:
    loader.batches += 1
    return True


def test_two_ranks_share_the_rows_of_one():
    whole = mixed(batch_size=12).make_train_loader()
    halves = []
    for rank in range(2):
        data = mixed(batch_size=6)
        loader = type(whole)(data._training(), data.shares, 6, 7, 0, rank, 2)
        halves.append(loader.next_batch()["tokens"])
    together = torch.stack(halves, dim=1).flatten(0, 1)
    assert torch.equal(together, whole.next_batch()["tokens"])


def test_a_resumed_run_measures_and_draws_the_same(tmp_path: Path):
    # A checkpoint before a measurement, on one, and behind one; of a callback before and behind.
    def callbacks(*first):
        return [*first, FollowStudent(every=5)]

    saves = SaveAt(tmp_path, (4, 5, 12))
    unbroken = fit(logit_distillation(), mixed(), callbacks(saves))
    follower = callbacks()[0]
    fit(logit_distillation(), mixed(), [follower])
    assert follower.shares is not None
    assert float(follower.shares.std()) > 1e-3
    for iteration in (4, 5, 12):
        resumed = fit(
            logit_distillation(), mixed(), callbacks(), ckpt_path=tmp_path / f"{iteration}.ckpt"
        )
        assert not list(differing(state(resumed), state(unbroken))), iteration


def test_nats_of_a_law_are_its_entropy_rate():
    language = HMMLanguage(3, V, LENGTH, 0)
    rows = mixed().measured_rows()[0]
    module = torch.nn.Module()
    module.register_parameter("any", torch.nn.Parameter(torch.zeros(())))
    module.vocabulary = V
    module.forward = OracleAutoregressive(language).forward
    expected = -language.log_prob(rows["tokens"]).mean() / LENGTH
    assert float(nats_of(module, [rows])[0]) == pytest.approx(float(expected), abs=1e-6)
    law = OracleAutoregressive(language)
    mask, device = torch.ones_like(rows["tokens"], dtype=torch.bool), torch.device("cpu")
    assert golden_kl(law, law, rows["tokens"], mask, device) == pytest.approx(0, abs=1e-6)


def test_what_does_not_fit_is_named():
    other = OracleLanguageDataModule(HMMLanguage(3, V + 1, LENGTH), 40, 10)
    with pytest.raises(
        InputError, match="domains: b: expected 5 tokens and length 6 as of the oth"
    ):
        MixedDataModule({"a": domain(0), "b": other})
    with pytest.raises(InputError, match="domains: expected at least one"):
        MixedDataModule({})
    with pytest.raises(InputError, match="shares: expected 3 numbers of at least 0"):
        mixed(shares=[1.0, -1.0, 0.0])
    with pytest.raises(InputError, match="expected more than the 40 rows that are measured"):
        MixedDataModule({"a": domain(0)}, measured=40).setup()
    with pytest.raises(InputError, match="every, smoothing, most"):
        FollowStudent(smoothing=2.0)
    with pytest.raises(InputError, match="FollowStudent: expected data of several domains"):
        fit(logit_distillation(), domain(0), [FollowStudent()])
