"""The spectrogram of synthesis."""

import math

import pytest
import torch

from kdlight.codec.log_mel import LogMel
from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError


def tone(hertz, seconds=0.5, rate=16000):
    return torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * rate)) / rate)[None]


def test_frames_lie_on_the_hops_and_padding_changes_none():
    mel = LogMel()
    audio = torch.randn(1, 1, 3300)
    found = mel.raw(audio)
    assert found.shape == (1, 80, 11)
    longer = mel.raw(torch.nn.functional.pad(audio, (0, 16000)))
    torch.testing.assert_close(longer[..., :11], found)
    click = torch.zeros(1, 1, 3200)
    click[..., 7 * 320 + 160] = 1.0
    assert int(mel.raw(click).sum(dim=1).argmax()) == 7


def test_bands_have_mean_zero_and_variance_one_and_the_constants_are_kept():
    torch.manual_seed(0)
    mel = LogMel(bands=20)
    recordings = [torch.randn(1, 8000) * scale for scale in (0.1, 0.5)]
    mel.learn(recordings)
    frames = torch.cat([mel(audio[None])[0] for audio in recordings], dim=1)
    torch.testing.assert_close(frames.mean(1), torch.zeros(20), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.std(1), torch.ones(20), atol=1e-4, rtol=0)
    again = build(spec_of(mel))
    again.load_state_dict(mel.state_dict())
    assert torch.equal(again(recordings[0][None]), mel(recordings[0][None]))
    natural = mel.natural(mel.normalised(mel.raw(recordings[0][None])))
    torch.testing.assert_close(natural, mel.raw(recordings[0][None]), atol=1e-4, rtol=1e-4)


def test_what_is_heard_has_the_same_spectrogram():
    mel = LogMel()
    audio = tone(440) * 0.3 + 0.01 * torch.randn(
        1, 8000, generator=torch.Generator().manual_seed(0)
    )
    mel.learn([audio])
    drawn = mel(audio[None])[0]
    heard = mel.listen(drawn)
    assert heard.shape == audio.shape
    spectrum = torch.fft.rfft(heard[0]).abs()
    assert float(spectrum.argmax()) * 2 == pytest.approx(440, abs=30)
    assert torch.equal(heard, mel.listen(drawn)), "no phase is drawn"


def test_a_window_shorter_than_its_hop_is_refused():
    with pytest.raises(InputError, match="n_fft: expected 320 or an even number"):
        LogMel(n_fft=256)
