"""Pheme's two networks: what they read, what reaches what, and where they start."""

import math

import pytest
import torch

from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.networks.speech.semantic_writer import FRAMES_A_PHONE, SemanticWriter
from tests.modules.speech.spoken_cases import tiny_filler, tiny_writer

FRAMES = torch.tensor([9, 6])
MASK = torch.arange(9) < FRAMES[:, None]


@pytest.fixture
def codes():
    made = torch.randint(8, (2, 3, 9), generator=torch.Generator().manual_seed(0))
    return torch.where(MASK[:, None], made, 0)


def test_a_frame_does_not_see_levels_above_or_masked_codes(codes):
    model, level, voice = tiny_filler(), torch.tensor([1, 2]), torch.randn(2, 6)
    told = codes.clone()
    told[0, 1, 3:] = told[1, 2, 3:] = model.unknown
    seen = model.inputs(told, level, voice)
    other = told.clone()
    other[0, 2] = (other[0, 2] + 3) % 8
    assert torch.equal(model.inputs(other, level, voice), seen)
    # A masked code adds nothing, whatever its embedding has become.
    torch.nn.init.normal_(model.embedding.weight, std=9.0)
    below = model.inputs(told, level, voice)
    without = model.embedding(told[0, 0]) + (model.asked(level) + model.voice(voice))[0]
    torch.testing.assert_close(below[0, 3:], without[3:])


def test_padding_changes_no_logit(codes):
    model, level, voice = tiny_filler(), torch.tensor([1, 2]), torch.randn(2, 6)
    here = model(codes, level, voice, MASK)
    padded = torch.nn.functional.pad(codes, (0, 50), value=5)
    there = model(padded, level, voice, torch.nn.functional.pad(MASK, (0, 50)))
    torch.testing.assert_close(there[:, :9][MASK], here[MASK])


def test_both_start_at_the_uniform_law(codes):
    log_probs, scored = SemanticWriter(8, 16, 1, 2)(
        torch.tensor([[3, 4], [5, 0]]), codes[:, 0], FRAMES
    )
    assert float(-log_probs[scored].mean().detach()) == pytest.approx(math.log(9), rel=1e-6)
    assert int(scored.sum()) == 9 + 6 + 2
    logits = AcousticFiller(8, 3, 6, 2, 16, 1, 2)(
        codes, torch.tensor([1, 2]), torch.zeros(2, 6), MASK
    )
    assert float(logits.detach().abs().max()) == 0


def test_a_prompt_is_a_row_that_has_begun(codes):
    """Its phones first, its codes first: the later codes have the same law either way."""
    model = tiny_writer()
    text = torch.tensor([[3, 4, 5, 6]])
    whole, scored = model(text, codes[:1, 0], FRAMES[:1])
    torch.manual_seed(0)
    short, _ = model(text, codes[:1, 0, :5], torch.tensor([5]))
    torch.testing.assert_close(short[0, 4:9], whole[0, 4:9])
    assert bool(scored[0, 4:9].all())
    written, frames = model.write(text, RowDraws(torch.arange(1), 0), prompt=codes[:1, 0, :5])
    assert torch.equal(written[0, :5], codes[0, 0, :5])
    assert int(frames) > 5


def test_written_codes_end_and_do_not_depend_on_the_batch():
    model = tiny_writer()
    text = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    codes, frames = model.write(text, RowDraws(torch.arange(2), 5))
    assert bool((frames >= 1).all())
    assert bool((frames <= FRAMES_A_PHONE * torch.tensor([4, 2])).all())
    assert bool((codes < 8).all())
    alone, count = model.write(text[1:, :2], RowDraws(torch.tensor([1]), 5))
    assert torch.equal(alone[0, : int(count)], codes[1, : int(frames[1])])
    never = tiny_writer()
    with torch.no_grad():
        never.network.head.bias[-1] = -1e9
    _, frames = never.write(text, RowDraws(torch.arange(2), 5), temperature=0)
    assert frames.tolist() == [4 * FRAMES_A_PHONE, 2 * FRAMES_A_PHONE], "it is given up"


def test_padded_text_and_codes_change_no_loss(codes):
    model = tiny_writer()
    text = torch.tensor([[3, 4, 5], [7, 8, 0]])
    here, where = model(text, codes[:, 0], FRAMES)
    padded = torch.nn.functional.pad(codes[:, 0], (0, 50), value=5)
    there, place = model(torch.nn.functional.pad(text, (0, 4)), padded, FRAMES)
    torch.testing.assert_close(there[place], here[where])


def test_a_filler_needs_a_level_to_fill():
    with pytest.raises(InputError, match="levels: expected 2 or more, found 1"):
        AcousticFiller(8, 1, 6, 2)
