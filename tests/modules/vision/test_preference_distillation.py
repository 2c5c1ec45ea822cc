"""Preference with the teacher as reference, experts that begin as one, captions of digits."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from datamodules.images.captions import CaptionsDataModule
from datamodules.images.digits import DigitsDataModule
from kdlight.errors import InputError
from kdlight.losses.preference import answer_log_prob, balance_loss, preference_loss
from kdlight.networks.images.captioner import Captioner, upcycled
from kdlight.training.optim import Optimization
from modules.vision.preference_distillation import PreferenceDistillation
from tests.exactness.vision_cases import captioner


def test_a_student_that_is_the_reference_loses_log_two() -> None:
    own = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    given = own.detach()
    loss = preference_loss(own[0] - given[0], own[1] - given[1], 0.1)
    torch.testing.assert_close(loss, torch.full((4,), math.log(2.0), dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    torch.testing.assert_close(gradient[0], torch.full((4,), -0.05, dtype=torch.float64))
    torch.testing.assert_close(gradient[1], torch.full((4,), 0.05, dtype=torch.float64))
    shifted = preference_loss(own[0] - given[0] + 3, own[1] - given[1] + 3, 0.1)
    torch.testing.assert_close(shifted, loss)


def test_the_optimum_is_the_reference_times_the_exponent_of_the_reward() -> None:
    """Five answers, pairs in the shares in which a Bradley-Terry judge of r prefers them."""
    beta = 0.5
    source = torch.Generator().manual_seed(0)
    reward = torch.randn(5, generator=source, dtype=torch.float64)
    reference = torch.randn(5, generator=source, dtype=torch.float64).log_softmax(dim=0)
    better, worse = torch.combinations(torch.arange(5)).T
    share = torch.sigmoid(reward[better] - reward[worse])
    scores = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    fitted = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> torch.Tensor:
        fitted.zero_grad()
        gain = scores.log_softmax(dim=0) - reference
        ahead = preference_loss(gain[better], gain[worse], beta)
        behind = preference_loss(gain[worse], gain[better], beta)
        loss = (share * ahead + (1 - share) * behind).sum()
        loss.backward()
        return loss

    fitted.step(closure)
    expected = (reference + reward / beta).log_softmax(dim=0)
    torch.testing.assert_close(scores.detach().log_softmax(dim=0), expected, rtol=1e-5, atol=1e-5)


def test_answers_are_sums_of_their_own_words() -> None:
    logits = torch.randn(1, 3, 4)
    tokens, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[True, False, True]])
    law = logits.log_softmax(dim=2)[0]
    expected = law[0, 1] + law[2, 3]
    torch.testing.assert_close(answer_log_prob(logits, tokens, mask)[0], expected)


def test_balance_is_one_where_all_experts_work_alike() -> None:
    even = torch.full((6, 3), 1 / 3, dtype=torch.float64)
    chosen = torch.tensor([[0, 1], [1, 2], [2, 0]]).repeat(2, 1)
    assert float(balance_loss(even, chosen)) == pytest.approx(1.0)
    one_sided = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(6, -1)
    alone = torch.zeros(6, 1, dtype=torch.int64)
    assert float(balance_loss(one_sided, alone)) == pytest.approx(3.0)


@pytest.mark.parametrize("top", [1, 2, 4])
def test_upcycled_experts_say_what_the_dense_model_says(top: int) -> None:
    dense = captioner(1).double()
    made = upcycled(dense, experts=4, top=top).double()
    image = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    tokens = torch.tensor([[0, 1, 3], [0, 2, 4], [0, 1, 4]])
    said, known = made(image, tokens), dense(image, tokens)
    torch.testing.assert_close(said.logits, known.logits)
    assert len(said.routings) == 1
    assert said.routings[0].chosen.shape[1] == top
    assert not known.routings


def test_a_word_is_told_from_what_stands_before_it() -> None:
    model = captioner(1)
    image, tokens = torch.rand(1, 1, 4, 4), torch.tensor([[0, 1, 3]])
    other = model(image, torch.tensor([[0, 1, 4]])).logits
    torch.testing.assert_close(model(image, tokens).logits, other)
    other = model(image, torch.tensor([[0, 2, 3]])).logits
    torch.testing.assert_close(model(image, tokens).logits[:, :2], other[:, :2])
    assert not torch.equal(model(image, tokens).logits[:, 2], other[:, 2])


def test_captions_name_the_digit_and_its_ink() -> None:
    data = CaptionsDataModule(DigitsDataModule(), hallucinated=0.2)
    training, held = data.splits.training, data.splits.heldout
    words = [data.words[word] for word in held["tokens"][0].tolist()]
    assert words[0] == "a"
    assert words[1] == data.class_names[held["label"][0]]
    assert words[2] in ("thin", "thick")
    assert words[3] == "."
    assert (held["worse"][:, 1] != held["tokens"][:, 1]).all()
    assert torch.equal(held["worse"][:, 2:], held["tokens"][:, 2:])
    wrong = training["tokens"][:, data.class_place] != 4 + training["label"]
    assert 0.15 < wrong.float().mean() < 0.25
    thick = (training["tokens"][:, 2] == 3).float().mean()
    assert thick == pytest.approx(0.5, abs=0.01)


def test_other_words_and_stages_are_refused() -> None:
    other = Captioner(6, 3, size=4, patch_size=4, width=8, depth=1, heads=2)
    with pytest.raises(InputError, match="expected the teacher's vocabulary 5, found 6"):
        PreferenceDistillation(captioner(1), other, Optimization())
    with pytest.raises(InputError, match="mimic_iterations: expected at most the 5"):
        PreferenceDistillation(captioner(1), captioner(2), Optimization(), 9, 5)
    with pytest.raises(InputError, match="no more experts at work than there are"):
        Captioner(5, 3, size=4, patch_size=4, width=8, heads=2, experts=2, top=3)


def test_the_words_of_the_data_are_the_teachers_and_the_students() -> None:
    teacher, own = captioner(1), captioner(2)
    module = PreferenceDistillation(teacher, own, Optimization())
    teacher.known_words = ["a", "0", "1", "thin", "thick"]
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(words=["a", "thin"]))
    module.trainer = trainer
    with pytest.raises(InputError, match="a vocabulary of the data's 2 words, found 5"):
        module.setup("fit")
    trainer.datamodule.words = ["a", "1", "0", "thin", "thick"]
    with pytest.raises(InputError, match="teacher: expected the data's words .'a', '1', '0'"):
        module.setup("fit")
