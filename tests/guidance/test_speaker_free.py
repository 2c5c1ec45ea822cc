"""The objective that hides a voice: who learns what, and what it refuses."""

import pytest
import torch

from kdlight.codec.frames import half_masks
from kdlight.errors import InputError
from kdlight.guidance.disentanglement import ReversedSpeaker, SpeakerFree
from kdlight.guidance.guidance import Guidance
from kdlight.guidance.speech import SpeechSource
from kdlight.losses.disentanglement import exposure_loss, guess_loss
from kdlight.networks.speech.speaker import SpeakerExtractor
from tests.guidance.tiny_guidance import WIDTH, Loudness


def speaker_free(width=6, teacher=WIDTH, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpeakerFree(
            SpeakerExtractor(teacher, 4, 8), SpeakerExtractor(width, 4, 8), **kwargs
        ).double()


def tensors():
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(4, 10, 6, generator=generator, dtype=torch.float64)
    teacher = torch.randn(4, 10, WIDTH, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher, torch.ones(4, 10, dtype=torch.bool)


def gradients(objective, loss, student):
    parts = [student, *objective.voice.parameters(), *objective.adversary.parameters()]
    found = torch.autograd.grad(loss, parts, allow_unused=True)
    voice = len(list(objective.voice.parameters()))
    return found[0], found[1 : 1 + voice], found[1 + voice :]


def test_each_learns_its_own_loss():
    objective = speaker_free()
    student, teacher, mask = tensors()
    content, voice, adversary = gradients(objective, objective(student, teacher, mask), student)
    # Twice the hiding: twice the student's gradient, and not a bit more of the others'.
    twice = speaker_free(hiding=2.0)
    content_2, voice_2, adversary_2 = gradients(twice, twice(student, teacher, mask), student)
    torch.testing.assert_close(content_2, 2 * content)
    assert all(torch.equal(a, b) for a, b in zip(voice, voice_2, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(adversary, adversary_2, strict=True))
    # The voice learns of the contrast alone.
    _, _, contrast = objective.voices(teacher, mask)
    alone = torch.autograd.grad(contrast, list(objective.voice.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(voice, alone, strict=True))


def test_an_adversary_that_learns_drives_the_voice_out():
    """Content c + alpha R s in the dimensions of c: alpha falls to nothing, not with a held one."""
    generator = torch.Generator().manual_seed(0)
    voices = torch.nn.functional.normalize(torch.randn(4096, 2, generator=generator), dim=-1)
    said = torch.randn(4096, 2, generator=generator)
    some = torch.ones(4096, dtype=torch.bool)
    turned = voices @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    # The best linear guess explains alpha^2 v_s / (v_c + alpha^2 v_s), with v_s = 1/2.
    content = said + 0.8 * turned
    guess = content @ torch.linalg.lstsq(content, voices).solution
    explained = 1 - float((voices - guess).square().mean() / voices.square().mean())
    assert explained == pytest.approx(0.32 / 1.32, abs=0.02)

    left = {}
    for name, rate in (("learns", 0.5), ("held", 0.0)):
        alpha = torch.ones((), requires_grad=True)
        adversary = torch.eye(2).requires_grad_()  # reads the teacher's frames, not the turned ones
        for _ in range(150):
            content = said + alpha * turned
            hidden = exposure_loss(content @ adversary.detach(), voices, some)
            guessed = guess_loss(content.detach() @ adversary, voices, some)
            (push,) = torch.autograd.grad(hidden, alpha)
            (pull,) = torch.autograd.grad(guessed, adversary)
            alpha = (alpha - 0.5 * push).detach().requires_grad_()
            adversary = (adversary - rate * pull).detach().requires_grad_()
        left[name] = float(alpha)
    assert abs(left["learns"]) < 0.05
    assert left["held"] > 0.9


def test_halves_share_no_frame():
    mask = torch.tensor([[True] * 5 + [False], [False, True, True, False, True, True], [False] * 6])
    first, second = half_masks(mask)
    assert torch.equal(first | second, mask)
    assert not (first & second).any()
    assert first.sum(1).tolist() == [2, 2, 0]
    assert second.sum(1).tolist() == [3, 2, 0]


def test_a_head_and_other_widths_are_refused():
    with pytest.raises(InputError, match="head: expected none"):
        Guidance(SpeechSource(Loudness()), speaker_free())
    wide = Guidance(SpeechSource(Loudness()), speaker_free(7), head="none")
    with pytest.raises(InputError, match="the objective takes 7"):
        wide.make_head("speaker_free", 6)
    with pytest.raises(InputError, match=r"voice.width: expected 3 of the teacher, found 5"):
        speaker_free(teacher=5).width(WIDTH)
    with pytest.raises(InputError, match="adversary.embedding: expected 4"):
        SpeakerFree(SpeakerExtractor(3, 4), SpeakerExtractor(6, 5))


def test_the_papers_extractor_learns_nothing_of_content():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = ReversedSpeaker(SpeakerExtractor(WIDTH, 4, 8)).double()
    _, teacher, mask = tensors()
    content = torch.randn_like(teacher).requires_grad_()
    _, _, contrast = objective.voices(teacher, mask)
    alone = torch.autograd.grad(contrast, list(objective.voice.parameters()))
    loss = objective(content, teacher, mask)
    whole = torch.autograd.grad(loss, [content, *objective.voice.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], alone, strict=True))
    assert whole[0].abs().sum() > 0
