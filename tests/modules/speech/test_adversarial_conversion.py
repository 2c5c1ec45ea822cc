"""Conversion with critics: who learns what from which corpus."""

import pytest
import torch

from datamodules.speech.one_voice import OneVoiceDataModule
from kdlight.errors import InputError
from kdlight.guidance.disentanglement import OneCorpus
from kdlight.guidance.sources import CorpusSource
from kdlight.networks.speech.sequence_critic import SequenceCritic
from tests.exactness.harness import differing, fit, state
from tests.exactness.speech_cases import adversarial_conversion, one_voice
from tests.guidance.tiny_guidance import GRID, HOP, crop, utterance
from tests.modules.speech.guided_cases import TinyTalk


def converter(module):
    return {name: tensor for name, tensor in state(module).items() if name.startswith("converter")}


def test_weights_of_zero_are_no_critics_bit_for_bit():
    with_none = fit(adversarial_conversion(critics={}, iterations=5), one_voice(12))
    off = {"content": 0.0, "mel": 0.0}
    held = fit(adversarial_conversion(weights=off, iterations=5), one_voice(12))
    used = fit(adversarial_conversion(iterations=5), one_voice(12))
    assert not list(differing(converter(with_none), converter(held)))
    assert list(differing(converter(with_none), converter(used)))


def test_external_recordings_give_nothing_to_reconstruct():
    heard = one_voice(12)
    plain = fit(adversarial_conversion(critics={}, iterations=5), heard)
    other = one_voice(12)
    for each in other.data.splits.training:
        if each.speaker != "t0":
            each.source.mul_(2)
    changed = fit(adversarial_conversion(critics={}, iterations=5), other)
    assert not list(differing(converter(plain), converter(changed)))
    used = fit(adversarial_conversion(iterations=5), other)
    assert list(
        differing(
            converter(fit(adversarial_conversion(iterations=5), one_voice(12))), converter(used)
        )
    )


def test_the_critic_learns_of_held_content_and_content_of_the_held_critic():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = OneCorpus(SequenceCritic(3, 4, 2)).double()
        content = torch.randn(4, 9, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(4, 9, dtype=torch.bool)
    corpus = torch.zeros(4, 9, 1, dtype=torch.float64)
    corpus[:2] = 1
    parts = list(objective.critic.parameters())
    first = torch.autograd.grad(objective(content, corpus, mask), [content, *parts])
    objective.hiding = 3.0
    second = torch.autograd.grad(objective(content, corpus, mask), [content, *parts])
    torch.testing.assert_close(second[0], 3 * first[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1:], second[1:], strict=True))
    assert first[0][:2].abs().sum() == 0  # nothing moves the target's own content
    assert first[0][2:].abs().sum() > 0
    # Padding reaches neither.
    padded = torch.cat([content, torch.full((4, 30, 3), torch.nan, dtype=torch.float64)], dim=1)
    longer = torch.cat([mask, torch.zeros(4, 30, dtype=torch.bool)], dim=1)
    told = torch.cat([corpus, torch.zeros(4, 30, 1, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(objective(padded, told, longer), objective(content, corpus, mask))


def test_one_voice_comes_as_often_as_all_others():
    data = one_voice(12)
    training = data.training_utterances()
    own = sum(each.speaker == "t0" for each in training)
    assert own == len(training) - own == 4
    assert data.heldout_utterances() == data.data.heldout_utterances()
    with pytest.raises(InputError, match="target: expected one of the training speakers t0, t1"):
        OneVoiceDataModule(TinyTalk(), "t3").setup()
    with pytest.raises(InputError, match="known in other voices"):
        data.parallel(training[0], "t1")


def test_a_corpus_is_told_by_name_alone():
    heard = [utterance(0, 5 * HOP), utterance(1, 3 * HOP)]
    batch = crop(heard, [0, 0], 5 * HOP)
    told = CorpusSource("s1").features(batch, GRID, torch.zeros(2, 5, 7))
    assert told.features[..., 0].tolist() == [[0.0] * 5, [1.0, 1.0, 1.0, 0.0, 0.0]]
    with pytest.raises(InputError, match="target: expected a speaker of some of the training"):
        CorpusSource("nobody").prepare(heard)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"critics": {"pitch": OneCorpus(SequenceCritic(3))}}, "critics: expected some of"),
        ({"critics": {"mel": OneCorpus(SequenceCritic(3))}}, "critics.mel: expected 16 channels"),
        ({"weights": {"mels": 1.0}}, "weights: expected some of reconstruction"),
        ({"weights": {"mel": -1.0}}, "weights and ramp"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        adversarial_conversion(**settings)
