"""Correction of lists: laws of the channel, negatives, what learns, and the report."""

from types import SimpleNamespace

import pytest
import torch

from datamodules.speech.misheard import BLURS, SEEN, MisheardDataModule
from kdlight.callbacks.speech.correction import CorrectionReport
from kdlight.errors import InputError
from kdlight.metrics.speech.nbest import explained, list_errors
from kdlight.storage.files import read_json
from tests.exactness.speech_cases import misheard, noise_aware


def test_lists_follow_the_laws_of_their_noise():
    data = MisheardDataModule(sentences=300, heldout_sentences=20, words=20, length=4)
    language, heard = data.channel
    for law in (language, *heard.values()):
        torch.testing.assert_close(law.sum(dim=1), torch.ones(20, dtype=torch.float64))
    # A word is likeliest heard as itself, more so in less noise.
    for kind in BLURS:
        quiet, loud = heard[kind, 0].diagonal(), heard[kind, 3].diagonal()
        assert (heard[kind, 0].max(dim=1).values == quiet).all()
        assert (quiet >= loud).all()
    part = data.training
    follows = language[part["truth"][:, :-1], part["truth"][:, 1:]]
    assert (follows > 0).all()
    assert torch.equal(part["truth"], MisheardDataModule(300, 20, 20, 4).training["truth"])
    # What is drawn comes as often as the law says.
    kind = SEEN[0]
    data = MisheardDataModule(300, 20, 20, 4, levels=(0.4,))
    drawn = data.part(20_000, (kind,), 2)
    pairs = torch.zeros(20, 20, dtype=torch.float64)
    words = (drawn["truth"].flatten(), drawn["hypotheses"][:, 0].flatten())
    pairs.index_put_(words, torch.ones(80_000, dtype=torch.float64), accumulate=True)
    found = pairs / pairs.sum(dim=1, keepdim=True)
    torch.testing.assert_close(found, data.channel.heard[kind, 0], rtol=0, atol=0.03)


def test_oracles_are_in_order_and_by_hand():
    lists = torch.tensor([[[1, 2, 3], [1, 5, 6]], [[4, 4, 4], [4, 4, 4]]])
    truth = torch.tensor([[1, 5, 3], [4, 4, 0]])
    found = list_errors(lists, truth)
    assert found["wer"] == pytest.approx(2 / 6)
    assert found["oracle_wer"] == pytest.approx(2 / 6)
    assert found["compositional_wer"] == pytest.approx(1 / 6)


def test_explained_of_a_line_and_of_noise():
    rows = torch.randn(400, 3)
    assert explained(rows, rows @ torch.tensor([1.0, 2.0, 3.0])) > 0.99
    assert explained(rows, torch.randn(400)) < 0.1


def test_others_are_never_ones_own():
    module = noise_aware()
    module.noise.start(0, torch.device("cpu"))
    batch = {"noisy": torch.arange(8.0)[:, None], "clean": torch.zeros(8, 1)}
    for _ in range(20):
        assert not (module.other(batch) == batch["noisy"]).any()
    module.negatives = "clean"
    assert torch.equal(module.other(batch), batch["clean"])


def test_psi_is_held_where_the_corrector_learns():
    module = noise_aware()
    heard = torch.randint(13, (6, 3, 4))
    module.corrector.word_vectors.normal_()
    noise = module.corrector.noise(heard)
    audio, other = torch.randn(2, 6, 8)
    critic = list(module.critic.parameters())
    projector = list(module.corrector.projector.parameters())
    pull = module.information(noise, audio, other)
    pulled = torch.autograd.grad(pull, projector + critic, allow_unused=True)
    assert any(each.abs().sum() > 0 for each in pulled[: len(projector)])
    assert all(each is None for each in pulled[len(projector) :])


def test_a_corrector_that_copies_has_the_errors_of_the_first_hypothesis(tmp_path):
    data, module = misheard(12), noise_aware()
    module.corrector.word_vectors.copy_(data.phones)
    report = CorrectionReport()
    trainer = SimpleNamespace(log_dir=str(tmp_path), is_global_zero=True, datamodule=data)
    report.setup(trainer, module, "fit")
    report.on_train_end(trainer, module)
    student, first = read_json(tmp_path / "summary.json")
    assert student["wer"] == first["wer"]
    assert first["compositional_wer"] <= first["oracle_wer"] <= first["wer"]


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="critic: expected none"):
        noise_aware(use_noise=False)
    with pytest.raises(InputError, match="weight and decay"):
        noise_aware(weight=-1.0)
    with pytest.raises(InputError, match=r"levels: expected numbers above 0"):
        MisheardDataModule(levels=(0.0,))
    module = noise_aware()
    module.trainer = SimpleNamespace(datamodule=MisheardDataModule())
    with pytest.raises(InputError, match=r"expected word vectors \(13, 38\)"):
        type(module).on_fit_start(module)
    with pytest.raises(InputError, match="held-out lists, found object"):
        CorrectionReport().setup(SimpleNamespace(datamodule=object()), module, "fit")
    with pytest.raises(InputError, match="trains a corrector"):
        CorrectionReport().setup(SimpleNamespace(datamodule=object()), torch.nn.ReLU(), "fit")
