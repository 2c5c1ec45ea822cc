"""Quantisers on two ranks: the same bits on both, and what one makes of the joint batch."""

import pytest
import torch

from tests.codec.rank_runs import POISONED, joint_batches, one_rank, two_ranks


def test_codebooks_are_bit_identical_on_two_ranks_after_every_batch() -> None:
    first, second = (rank["ours"] for rank in two_ranks())
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_two_ranks_have_the_codebooks_of_one_on_the_joint_batch() -> None:
    for step, (one, two) in enumerate(zip(one_rank()["ours"], two_ranks()[0]["ours"], strict=True)):
        for name, value in one.items():
            torch.testing.assert_close(
                two[name], value, rtol=1e-4, atol=1e-4, msg=f"{name} after batch {step}"
            )


def test_the_batches_of_the_ranks_revived_codes_and_had_one_to_skip() -> None:
    states, batches = two_ranks()[0]["ours"], joint_batches()
    revived = [
        step
        for step, (state, batch) in enumerate(zip(states, batches, strict=True))
        if step != POISONED
        and (state["layers.0.codebook"][:, None] == batch.transpose(1, 2).flatten(0, 1))
        .all(dim=-1)
        .any()
    ]
    assert len(revived) >= 3
    before, after = states[POISONED - 1], states[POISONED]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert states[-1]["layers.0.updates"] == len(batches) - 1


@pytest.mark.parametrize("kind", ["residual", "split", "factorized"])
def test_losses_with_levels_by_item_have_the_gradient_of_the_joint_batch(kind: str) -> None:
    whole = one_rank()["dropout"][kind]
    for rank, found in enumerate(each["dropout"][kind] for each in two_ranks()):
        # Trainers average gradients over ranks.
        torch.testing.assert_close(found / 2, whole[rank::2])
