import pytest
import torch

from kdlight.errors import InputError
from kdlight.networks.text.energy_transformer import EnergyTransformer
from kdlight.storage.files import save_model
from kdlight.teachers.tokens import energy_teacher, token_teacher
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, fit
from tests.exactness.token_cases import energy_diffusion, masked


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


def test_a_run_saves_the_energy_and_reads_the_proposal_from_its_own_file(tmp_path):
    source, path = tmp_path / "masked.safetensors", tmp_path / "20.ckpt"
    save_model(masked(), source)
    module = fit(
        energy_diffusion(token_teacher(str(source))),
        CASES["energy_diffusion"].data(),
        [SaveAt(tmp_path, (20,))],
    )
    loaded = token_teacher(str(path))
    ((_, own),) = module.generators().values()
    start = own.masks(6)
    expected = own(start, seed=0).tokens
    assert torch.equal(loaded(start, seed=0).tokens, expected)
    assert own.walks(["ancestral"], [8, 4]) == [(own, 3), (own, 8), (own, 4)]
    # One proposal in memory, and none in the file.
    weights = {id(weight) for weight in module.get_teacher().parameters()}
    assert weights == {id(weight) for weight in module.ema.module.proposal.parameters()}
    assert weights == {id(weight) for weight in module.student.proposal.parameters()}
    checkpoint = torch.load(path, weights_only=True)
    assert not [name for name in checkpoint["state_dict"] if "proposal" in name]

    save_model(loaded, tmp_path / "whole.safetensors")  # an exported model needs no other file
    save_model(masked(3), source)
    with pytest.raises(InputError, match=r"\(proposal\) in .*, found others than"):
        token_teacher(str(path))
    source.unlink()
    with pytest.raises(InputError, match=r"student: expected the weights of its .* no such"):
        token_teacher(str(path))
    assert torch.equal(
        token_teacher(str(tmp_path / "whole.safetensors"))(start, seed=0).tokens, expected
    )
    # As 0.2.0 saved it.
    kept = module.ema.module.proposal.state_dict()
    checkpoint["state_dict"] |= {f"ema.module.proposal.{name}": kept[name] for name in kept}
    del checkpoint["models"][0]["borrowed"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    assert torch.equal(token_teacher(str(tmp_path / "old.ckpt"))(start, seed=0).tokens, expected)


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
