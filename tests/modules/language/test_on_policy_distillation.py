import pytest
import torch

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from modules.language.next_token.on_policy_distillation import OnPolicyDistillation
from tests.exactness.language_cases import LENGTH, V, on_policy


def test_prompts_and_what_is_not_scored_stay_and_nothing_counts_behind_the_end():
    module = on_policy()
    module.noise.start(0, torch.device("cpu"))
    module.prompt = 2
    tokens = torch.randint(V, (200, LENGTH), generator=torch.Generator().manual_seed(0))
    scored = torch.arange(LENGTH) < torch.tensor([[LENGTH - 1], [LENGTH]]).repeat(100, 1)
    written, counted = module.rewritten(module.student, tokens, scored)
    kept = ~scored
    kept[:, :2] = True
    assert torch.equal(written[kept], tokens[kept])
    assert (written[~kept] != tokens[~kept]).any()
    assert not counted[kept].any()
    for row, places in zip(written, counted, strict=True):
        behind = (row[2:] == 0).nonzero()
        last = int(behind[0]) + 2 if len(behind) else LENGTH - 1
        assert not places[last + 1 :].any(), "behind the first end"
        assert places[2 : min(last, LENGTH - 2) + 1].all(), "the end itself counts"


def test_what_the_student_writes_has_its_own_law():
    module = on_policy()
    module.noise.start(1, torch.device("cpu"))
    tokens = torch.zeros(5000, LENGTH, dtype=torch.int64)
    written, _ = module.rewritten(module.student, tokens, torch.ones_like(tokens).bool())
    first = torch.bincount(written[:, 0], minlength=V) / len(written)
    expected = module.student(tokens[:1])[0, 0].softmax(0)
    torch.testing.assert_close(first, expected, atol=0.03, rtol=0)


def test_settings_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"sum is at most 1, found 0.7 and 0.4"):
        case = on_policy()
        OnPolicyDistillation(
            case.get_submodule("teacher"),
            case.student,
            case.objective,
            case._optimization["student"],
            student_share=0.7,
            teacher_share=0.4,
        )
    with pytest.raises(InputError, match="expected the teacher's vocabulary of 4 tokens, found 5"):
        case = on_policy()
        OnPolicyDistillation(
            AutoregressiveModel(TokenTransformer(4, 8, 1, 2, causal=True), 4, LENGTH),
            case.student,
            case.objective,
            case._optimization["student"],
        )
