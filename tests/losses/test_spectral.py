"""Distances of mel spectrograms: the transform, values by hand, silence."""

import math

import pytest
import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from kdlight.errors import InputError
from kdlight.losses.spectral import LogMelLoss, MelL1L2Loss, MelScale, SpectralLoss

RATE = 16000


def noise(seed: int = 0, items: int = 2, length: int = 4000) -> Tensor:
    return torch.randn(items, 1, length, generator=torch.Generator().manual_seed(seed)) * 0.3


def losses() -> list[SpectralLoss]:
    return [LogMelLoss(RATE, (256, 512), (10, 20)), MelL1L2Loss(RATE, (256, 512), 16)]


each_loss = pytest.mark.parametrize("loss", losses(), ids=["log", "l1_l2"])


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(("n_fft", "hop"), [(512, None), (512, 200), (64, 16)])
def test_the_scale_is_that_of_torchaudio(n_fft: int, hop: int | None, normalized: bool) -> None:
    mel = MelScale(RATE, n_fft, 20, hop, normalized)
    other = MelSpectrogram(
        RATE,
        n_fft,
        hop_length=n_fft // 4 if hop is None else hop,
        n_mels=20,
        power=1.0,
        normalized="window" if normalized else False,
    )
    found = mel(noise())
    assert found.shape == (2, 20, 4000 // other.hop_length + 1)
    torch.testing.assert_close(found, other(noise()[:, 0]), rtol=1e-4, atol=1e-5)


def test_a_tone_has_the_magnitude_of_its_window() -> None:
    # Bin 16 of 512; a Hann window sums to 256, half of which an amplitude of 1 has at +f.
    tone = torch.sin(2 * math.pi * 16 / 512 * torch.arange(8000))[None, None]
    mel = MelScale(RATE, 512, 20)
    bins = torch.zeros(257)
    bins[15:18] = torch.tensor([64.0, 128.0, 64.0])
    torch.testing.assert_close(mel(tone)[0, :, 30], mel.bank @ bins, rtol=1e-3, atol=2e-2)


def test_a_signal_shorter_than_half_a_window_has_a_spectrogram() -> None:
    assert MelScale(RATE, 512, 20)(noise(length=100)).shape == (2, 20, 1)


def test_autocast_leaves_the_scale_alone() -> None:
    mel = MelScale(RATE, 512, 20)
    expected = mel(noise())
    with torch.autocast("cpu", torch.bfloat16):
        found = mel(noise())
    assert torch.equal(found, expected)


@each_loss
def test_equal_signals_have_no_distance(loss: SpectralLoss) -> None:
    assert loss(noise(), noise()) == 0
    assert loss(noise(), noise(1)) > 0


@each_loss
def test_the_distance_is_a_mean_over_items(loss: SpectralLoss) -> None:
    a, b = noise(), noise(1)
    each = [loss(a[i : i + 1], b[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(a, b), torch.stack(each).mean())


@each_loss
def test_only_decoded_audio_has_a_gradient(loss: SpectralLoss) -> None:
    decoded, audio = noise().requires_grad_(), noise(1).requires_grad_()
    loss(decoded, audio).backward()
    assert decoded.grad is not None
    assert decoded.grad.abs().max() > 0
    assert audio.grad is None


@each_loss
@pytest.mark.parametrize("silent", ["decoded", "audio", "both"])
def test_silence_has_a_finite_distance_and_gradient(loss: SpectralLoss, silent: str) -> None:
    decoded = noise() * (silent == "audio")
    audio = noise(1) * (silent == "decoded")
    value = loss(decoded.requires_grad_(), audio)
    value.backward()
    assert value.isfinite()
    assert decoded.grad.isfinite().all()


def test_twice_the_amplitude_is_log_2_away_in_every_band() -> None:
    loss = LogMelLoss(RATE, (256, 512), (10, 20), weights=(1.0, 3.0))
    assert float(loss(2 * noise(), noise())) == pytest.approx(math.log(2), rel=1e-5)
    assert float(loss(noise(), 2 * noise())) == pytest.approx(math.log(2), rel=1e-5)
    quiet = noise() * 1e-9
    assert loss(2 * quiet, quiet) == 0, "below the floor"


def test_weights_of_resolutions_are_scaled_to_one() -> None:
    a, b = noise(), noise(1)
    one, other = (LogMelLoss(RATE, (n,), (m,))(a, b) for n, m in ((256, 10), (512, 20)))
    both = LogMelLoss(RATE, (256, 512), (10, 20))(a, b)
    torch.testing.assert_close(both, (one + other) / 2)
    weighted = LogMelLoss(RATE, (256, 512), (10, 20), weights=(2.0, 6.0))(a, b)
    torch.testing.assert_close(weighted, (one + 3 * other) / 4)


def test_the_seven_resolutions_of_dac_have_no_empty_band() -> None:
    assert all((scale.bank.sum(dim=1) > 0).all() for scale in LogMelLoss(RATE).scales)


def test_the_encodec_distance_is_the_one_worked_out() -> None:
    a, b = noise(), noise(1)
    terms = []
    for n_fft in (256, 512):
        mel = MelSpectrogram(
            RATE, n_fft, hop_length=n_fft // 4, n_mels=16, power=1.0, normalized="window"
        )
        x, y = mel(a[:, 0]).double(), mel(b[:, 0]).double()
        logs = torch.log10(x + 1e-5) - torch.log10(y + 1e-5)
        terms += [float((x - y).abs().mean()), float(logs.square().mean())]
    found = MelL1L2Loss(RATE, (256, 512), 16)(a, b)
    assert float(found) == pytest.approx(sum(terms) / 4, rel=1e-4)


def test_ten_times_the_amplitude_is_one_decade_in_the_squared_term() -> None:
    # L1 is 9 times the mean magnitude, the squared term 1.
    loud, mel = 100 * noise(), MelScale(RATE, 256, 16, normalized=True)
    found = MelL1L2Loss(RATE, (256,), 16)(10 * loud, loud)
    assert float(found) == pytest.approx((9 * float(mel(loud).mean()) + 1) / 2, rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"n_mels": (10,)}, {"weights": (1.0,)}, {"weights": (0.0, 0.0)}],
)
def test_settings_that_do_not_match_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"weights: expected .*, found .*\.$"):
        LogMelLoss(RATE, **{"n_ffts": (256, 512), "n_mels": (10, 20), **settings})
