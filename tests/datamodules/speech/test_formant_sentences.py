"""Sentences: phones, durations and pitch that fit their audio."""

import pytest
import torch

from datamodules.speech.formant_sentences import FormantSentencesDataModule, sentence
from kdlight.errors import InputError
from tests.modules.speech.synthesis_cases import HOP, short_sentences


def test_durations_and_pitch_count_the_frames():
    data = short_sentences()
    for utterance in data.all_utterances:
        said = sentence(utterance, HOP)
        frames = -(-utterance.samples // HOP)
        assert int(said["durations"].sum()) == frames == len(said["pitch"])
        assert (said["durations"] >= 0).all()
        labels = said["phones"].repeat_interleave(said["durations"]) - 1
        right = labels == utterance.phone_labels(HOP)
        # A frame is of the phone in its middle; ends are rounded to the nearest frame.
        assert right.float().mean() > 0.9
        assert 60 < float(said["pitch"].exp().mean()) < 300


def test_batches_have_the_documented_form():
    data = short_sentences()
    batch = next(iter(data.train_dataloader()))
    assert batch["audio"].shape == (4, 1, 40 * HOP)
    assert batch["pitch"].shape == (4, 40)
    assert batch["phones"].shape == batch["durations"].shape
    assert set(batch["voice"].tolist()) <= {0, 1}
    assert torch.equal(batch["durations"].sum(1), -(-batch["lengths"] // HOP))
    held = next(iter(data.val_dataloader()))
    assert set(held["speaker"]) == {next(iter(data.heldout_sentences()))}
    assert not set(held["speaker"]) & set(data.training_sentences())


def test_a_retake_has_other_noise_and_nothing_else():
    data = short_sentences()
    utterance = data.all_utterances[0]
    again = data.retake(utterance.name)
    assert again.shape == utterance.read().shape
    assert not torch.equal(again, utterance.read())
    both = torch.stack([again[0], utterance.read()[0]])
    assert torch.corrcoef(both)[0, 1] > 0.8


def test_sentences_that_are_too_long_are_left_out_and_none_left_is_told():
    with pytest.raises(InputError, match="frames: expected at least .* found 5"):
        data = FormantSentencesDataModule(speakers=2, utterances=1, heldout=1, frames=5)
        data.setup()
