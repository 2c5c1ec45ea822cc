import pytest
import torch

from kdlight.errors import InputError
from kdlight.networks.text.energy_transformer import EnergyTransformer
from kdlight.teachers.tokens import energy_teacher, token_teacher
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, fit


def test_a_new_energy_is_zero_and_sees_both_sequences():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EnergyTransformer(5, width=8, depth=1, heads=2)
    clean, seen = torch.tensor([[0, 1, 2]] * 3), torch.tensor([[5, 1, 2], [5, 5, 2], [5, 1, 2]])
    clean[2, 0] = 3
    assert (network(clean, seen) == 0).all()
    torch.nn.init.normal_(network.judge[2].weight)
    first, other_mask, other_token = network(clean, seen).tolist()
    assert len({first, other_mask, other_token}) == 3


def test_what_a_run_saved_loads_with_its_proposal_and_samples_the_same(tmp_path):
    case = CASES["energy_diffusion"]
    module = fit(case.make(), case.data(), [SaveAt(tmp_path, (20,))])
    loaded = token_teacher(str(tmp_path / "20.ckpt"))
    ((_, own),) = module.generators().values()
    start = own.masks(6)
    assert torch.equal(loaded(start, seed=0).tokens, own(start, seed=0).tokens)
    assert own.walks(["ancestral"], [8, 4]) == [(own, 3), (own, 8), (own, 4)]
    # One proposal in memory, and one in the file: that of the model that is loaded from it.
    weights = {id(weight) for weight in module.get_teacher().parameters()}
    assert weights == {id(weight) for weight in module.ema.module.proposal.parameters()}
    assert weights == {id(weight) for weight in module.student.proposal.parameters()}
    saved = {name.partition(".proposal.")[0] for name in module.state_dict() if "proposal" in name}
    assert saved == {"ema.module"}


def test_an_autoregressive_energy_is_put_together_from_two_runs(tmp_path):
    for name in ("masked_diffusion", "language_training"):
        case = CASES[name]
        (tmp_path / name).mkdir()
        fit(case.make(), case.data(), [SaveAt(tmp_path / name, (4,))])
    masked, other = (
        str(tmp_path / name / "4.ckpt") for name in ("masked_diffusion", "language_training")
    )
    made = energy_teacher(masked, other, candidates=3, steps=2)
    assert made(made.masks(4), seed=0).tokens.max() < made.vocabulary
    with pytest.raises(InputError, match="as autoregressive, found autoregressive and first_hi"):
        energy_teacher(other, masked)
