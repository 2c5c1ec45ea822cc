import json

import numpy as np
import pytest
import torch

from datamodules.text.oracle_language import OracleLanguageDataModule
from datamodules.text.taught import TaughtDataModule
from kdlight.discrete.autoregressive import AutoregressiveModel, OracleAutoregressive
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError
from kdlight.losses.language.pointwise import ForwardKL, TopK
from kdlight.losses.language.taid import TAID
from kdlight.storage.tokenizers import NumberTokenizer
from kdlight.teachers import law_cache
from kdlight.teachers.law_cache import LawCache, kept_laws
from kdlight.training.optim import Optimization
from modules.language.next_token.cached_distillation import CachedDistillation
from tests.exactness.language_cases import LENGTH, V, network

LANGUAGE = HMMLanguage(3, vocabulary=V, length=LENGTH)
TOKENS = LANGUAGE.draw(25, torch.Generator().manual_seed(0)).int()


def teacher(seed=2):
    return AutoregressiveModel(network(seed, causal=True), V, LENGTH)


class KilledError(Exception):
    pass


class Stopping(AutoregressiveModel):
    """A teacher that is killed at its third call."""

    calls = 0

    def forward(self, tokens):
        self.calls += 1
        if self.calls == 3:
            raise KilledError
        return super().forward(tokens)


def test_the_tail_is_summed_where_its_complement_has_no_digits():
    logits = torch.tensor([[30.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    laws = kept_laws(logits, 1)
    assert laws.tokens.tolist() == [[0]]
    exact = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).logsumexp(0) - 30
    assert float(laws.log_probs[0, 1] - exact) == pytest.approx(0, abs=1e-9)
    assert kept_laws(logits, 4).log_probs.shape == (1, 4)
    half = kept_laws(logits, 2, temperature=2.0)
    assert torch.allclose(half.log_probs[0, :2], (logits / 2).log_softmax(1)[0, :2])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_with_all_tokens_the_loss_is_that_of_the_teacher_itself(tmp_path, dtype):
    cache = LawCache(tmp_path, TOKENS, None, V, k=V, dtype=dtype)
    cache.make(teacher())
    laws = cache.read()
    student = teacher(1)(TOKENS.long()).detach().requires_grad_(True)
    mask = torch.arange(LENGTH) < torch.arange(25)[:, None] % LENGTH + 1
    objective, tokens = ForwardKL(temperature=1.0), TOKENS.long()
    whole = objective(student, teacher()(tokens), tokens, mask)
    kept = objective.of_kept(
        student, laws["teacher_log_probs"], laws["teacher_tokens"].long(), tokens, mask
    )
    exact = 1e-6 if dtype == "float32" else 1e-3
    assert torch.allclose(kept, whole, rtol=0, atol=exact)
    gradients = [torch.autograd.grad(each.sum(), student)[0] for each in (whole, kept)]
    assert torch.allclose(*gradients, rtol=0, atol=exact)


def test_with_fewer_it_is_the_bound_by_hand():
    p = torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.06, 0.04]], dtype=torch.float64)
    q = torch.tensor([[0.3, 0.3, 0.1, 0.1, 0.1, 0.1]], dtype=torch.float64)
    laws = kept_laws(p.log(), 2)
    found = ForwardKL().of_kept(
        q.log()[None],
        laws.log_probs[None],
        laws.tokens[None],
        torch.zeros(1, 1, dtype=torch.int64),
        torch.ones(1, 1, dtype=torch.bool),
    )
    assert float(found) == pytest.approx(0.088015168526, abs=1e-10)  # of 0.107018623560


def test_what_was_killed_goes_on_and_gives_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(law_cache, "CALL_BYTES", 4 * LENGTH * V * 10)
    whole = LawCache(tmp_path / "whole", TOKENS, None, V, k=2)
    whole.make(teacher())
    part = LawCache(tmp_path / "part", TOKENS, None, V, k=2)
    dying = Stopping(network(2, causal=True), V, LENGTH)
    with pytest.raises(KilledError):
        part.make(dying)
    with pytest.raises(InputError, match="laws of 25 rows, found 20; with a teacher"):
        part.read()
    # Of another class, with the same weights: what it says is not known to be the same.
    with pytest.raises(InputError, match="made with another teacher"):
        part.make(teacher())
    dying.calls = 10
    part.make(dying)
    assert dying.calls == 11
    for name, value in whole.read().items():
        assert torch.equal(value.float(), part.read()[name].float())
    assert whole.bytes_per_token == 2 * 2 + 3 * 2


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"tokens": TOKENS.flip(0)}, "data"),
        ({"tokenizer": NumberTokenizer(V)}, "tokenizer"),
        ({"k": 3}, "k"),
        ({"temperature": 2.0}, "temperature"),
    ],
)
def test_what_is_stale_is_refused(tmp_path, changes, name):
    known = {"tokens": TOKENS, "tokenizer": None, "vocabulary": V, "k": 2}
    LawCache(tmp_path, **known).make(teacher())
    with pytest.raises(
        InputError, match=f"made with another {name}: expected .* remove the folder"
    ):
        LawCache(tmp_path, **(known | changes)).read()
    with pytest.raises(InputError, match="made with another teacher"):
        LawCache(tmp_path, **known).make(teacher(3))


def test_damage_is_named(tmp_path):
    cache = LawCache(tmp_path, TOKENS, None, V, k=2)
    cache.make(teacher())
    path = tmp_path / "log_probs.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"log_probs.npy: missing, truncated or damaged"):
        cache.read()
    (tmp_path / "laws.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match=r"laws.json: expected what a cache was made of"):
        cache.read()
    with pytest.raises(InputError, match="vocabulary of 5 tokens, found 6"):
        cache.make(AutoregressiveModel(torch.nn.Identity(), 6, LENGTH))
    with pytest.raises(InputError, match="found 0 and 1"):
        LawCache(tmp_path, TOKENS, None, V, k=0)


def test_data_bring_the_laws_and_need_no_teacher_afterwards(tmp_path):
    def data(asked):
        inner = OracleLanguageDataModule(LANGUAGE, 20, 8, batch_size=4)
        return TaughtDataModule(inner, str(tmp_path / "laws"), asked, k=2)

    first = data(OracleAutoregressive(LANGUAGE))
    first.prepare_data()
    second = data(None)
    second.prepare_data()
    second.setup("fit")
    batch = next(iter(second.train_dataloader()))
    assert batch["teacher_log_probs"].shape == (4, LENGTH, 3)
    law = LANGUAGE.predictions(batch["tokens"])[:, :-1].log()
    expected = law.gather(2, batch["teacher_tokens"].long())
    assert torch.allclose(batch["teacher_log_probs"][..., :2].double(), expected, atol=1e-2)
    assert next(iter(second.heldout_dataloader())).keys() == {"tokens", "mask", "lengths"}
    assert len(second.judges()) == 1
    assert second.law() is not None


@pytest.mark.parametrize("objective", [TAID(), TopK()])
def test_an_objective_of_logits_is_refused(objective):
    with pytest.raises(InputError, match="asks for a teacher's logits"):
        CachedDistillation(teacher(), objective, Optimization(lr=1e-3))


@pytest.mark.parametrize("done", [-1, 26, True, 1.5, None])
def test_a_number_of_rows_that_is_none(tmp_path, done):
    cache = LawCache(tmp_path, TOKENS, None, V, k=2)
    cache.make(teacher())
    path = tmp_path / "laws.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"done": done}))
    with pytest.raises(InputError, match=r"laws.json: expected what a cache was made of"):
        cache.read()


@pytest.mark.parametrize(
    ("name", "value"), [("tokens", V), ("log_probs", np.nan), ("log_probs", 0), ("log_probs", 3)]
)
def test_values_that_are_no_law_are_found_before_training(tmp_path, name, value):
    cache = LawCache(tmp_path, TOKENS, None, V, k=2)
    cache.make(teacher())
    array = np.load(tmp_path / f"{name}.npy")
    array[7, 1] = value
    np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(InputError, match=f"laws that sum to 1 over tokens below {V}"):
        cache.read()


def test_a_folder_in_the_place_of_the_description(tmp_path):
    cache = LawCache(tmp_path, TOKENS, None, V, k=2)
    (tmp_path / "laws.json").mkdir()
    with pytest.raises(InputError, match=r"laws.json: expected a file, found a folder"):
        cache.make(teacher())
