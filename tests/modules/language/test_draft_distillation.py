import json

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.language.draft_report import DraftReport
from kdlight.cli import main
from kdlight.discrete.autoregressive import AutoregressiveGenerator
from kdlight.errors import InputError
from kdlight.networks.text.feature_draft import FeatureDraft
from kdlight.networks.text.feature_drafter import FeatureDrafter, ends_of, logits_of
from kdlight.report.columns import column
from kdlight.speculative.drafters import NoDrafter
from kdlight.speculative.writing import DraftedGenerator
from kdlight.storage.files import save_model
from kdlight.training.optim import Optimization
from modules.language.next_token.draft_distillation import DraftDistillation
from tests.exactness.cases import CASES
from tests.exactness.harness import fit
from tests.surgery.networks import LENGTH, V, batches, model_of

TOKENS = batches()[0][0]


def drawn(width=16, seed=0, **switches):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FeatureDraft(width, heads=4, **switches).double().eval()


def stepped(draft, monkeypatch, **weights):
    found = {}
    method = DraftDistillation(model_of("own"), draft, Optimization(), noise=0.0, **weights)
    monkeypatch.setattr(method, "optimize", lambda name, loss: loss.backward())
    monkeypatch.setattr(method, "report", found.update)
    method.noise.start(0, torch.device("cpu"), 0, 1)
    method.step({"tokens": TOKENS})
    return found


@pytest.mark.parametrize(
    ("weights", "still"), [((1.0, 0.0), slice(0, 16)), ((0.0, 1.0), slice(16, 32))]
)
def test_each_half_learns_from_its_own_loss_alone(weights, still, monkeypatch):
    draft = drawn()
    stepped(draft, monkeypatch, feature=weights[0], prediction=weights[1])
    gradient = draft.block.mlp[2].weight.grad
    assert gradient[still].abs().max() == 0
    assert gradient.abs().max() > 0
    assert draft.gate.weight.grad.abs().max() > 0


def test_with_both_off_it_is_one_layer_whose_output_is_seen_and_fed():
    plain = drawn(sampling=False, alignment=False)
    found = plain(*torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(1)).double())
    assert torch.equal(found.shown, found.fed)
    assert not [name for name, _ in plain.named_parameters() if name.startswith(("gate", "up"))]


@pytest.mark.parametrize("kind", ["own", "llama"])
def test_features_are_what_the_head_sees_and_the_pair_is_shifted(kind, monkeypatch):
    target = model_of(kind)
    method = DraftDistillation(target, drawn(), Optimization())
    features, embedded, logits = method.seen(TOKENS)
    head = ends_of(target)[1]
    torch.testing.assert_close(logits_of(head, features, V), logits)
    assert torch.equal(logits, target(TOKENS))
    assert torch.equal(embedded, ends_of(target)[0](TOKENS))
    assert not head._forward_pre_hooks
    # What is foreseen of place i knows tokens up to i and no more.
    draft = drawn()
    one = draft(embedded, features).shown
    changed = embedded.clone()
    changed[:, 3] += 1
    other = draft(changed, features).shown
    assert torch.equal(one[:, :3], other[:, :3])
    assert not torch.equal(one[:, 3], other[:, 3])


def test_the_loss_is_the_cards(monkeypatch):
    draft = drawn()
    found = stepped(draft, monkeypatch)
    features, embedded, logits = DraftDistillation(model_of("own"), draft, Optimization()).seen(
        TOKENS
    )
    foreseen = draft(embedded[:, :-1], features[:, :-1])
    smooth = torch.nn.functional.smooth_l1_loss(foreseen.fed, features[:, 1:])
    torch.testing.assert_close(found["feature"], smooth.detach())
    head = ends_of(model_of("own"))[1]
    log_q = head(foreseen.shown).log_softmax(-1)
    soft = -(logits[:, 1:].softmax(-1) * log_q).sum(-1).mean()
    torch.testing.assert_close(found["prediction"], soft.detach())


@pytest.mark.parametrize("kind", ["own", "llama"])
@pytest.mark.parametrize("prompt", [0, 2])
def test_greedy_rows_are_the_targets_whatever_the_draft(kind, prompt):
    target = model_of(kind).float()
    start = torch.full((3, LENGTH + 4), V)
    start[:, :prompt] = 3
    drafter = FeatureDrafter(target, drawn().float(), 3, temperature=0.0)
    drafted = DraftedGenerator(target, drafter, temperature=0.0)
    found = drafted(start, seed=1).tokens
    assert torch.equal(found, DraftedGenerator(target, NoDrafter(), 0.0)(start, seed=2).tokens)
    # All that was kept of a row is known as the target computed it.
    drafter.propose(found[-1].tolist(), 0, torch.zeros(0))
    drafter.end()
    whole = DraftDistillation(target, drawn().float(), Optimization()).seen(found[-1:])[0]
    torch.testing.assert_close(drafter.features, whole, atol=1e-5, rtol=1e-4)
    assert not ends_of(target)[1]._forward_pre_hooks


def test_a_run_counts_tokens_of_a_call_and_generate_takes_its_draft(tmp_path):
    case = CASES["draft_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    method = fit(case.make(), case.data(), [DraftReport(rows=4)], logger=logger)
    (row,) = json.loads((tmp_path / "summary.json").read_text())
    assert 1 <= row["block_efficiency_greedy"] <= 5
    assert 0 <= row["acceptance"] <= 1
    figures = row.keys() - {"model"}
    assert {column(figure).better for figure in figures} == {"higher"}  # more tokens are better
    target, draft = method.drafting()
    save_model(AutoregressiveGenerator(target), tmp_path / "target.safetensors")
    save_model(draft, tmp_path / "draft.safetensors")
    words = ["generate", "--checkpoint", str(tmp_path / "target.safetensors"), "--num-samples", "2"]
    words += ["--draft", str(tmp_path / "draft.safetensors"), "--output", str(tmp_path / "a.npz")]
    assert main(words) == 0
    with pytest.raises(InputError, match="expected a method that trains a draft, found Language"):
        fit(CASES["language_training"].make(), case.data(), [DraftReport()])


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="draft: expected the target's width of 16, found 8"):
        DraftDistillation(model_of("own"), drawn(8), Optimization())
    with pytest.raises(InputError, match="target: expected a TokenTransformer, or a causal model"):
        ends_of(torch.nn.Linear(2, 2))
