"""The codec at the frame rate, and the codec around it: frames, borders, context, numbers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.codec.codec import Codec
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder, overlap_add
from kdlight.codec.quantization import ResidualVQ
from kdlight.errors import InputError

HOP, N_FFT, RATE = 16, 64, 8000


def encoder(layers: int = 1, n_fft: int = N_FFT) -> MelEncoder:
    torch.manual_seed(0)
    return MelEncoder(6, RATE, HOP, n_fft, n_mels=8, width=8, layers=layers, expansion=2)


def decoder(layers: int = 1, n_fft: int = N_FFT) -> SpectrumDecoder:
    torch.manual_seed(1)
    return SpectrumDecoder(6, HOP, n_fft, width=8, layers=layers, expansion=2)


def codec() -> Codec:
    return Codec(encoder(), ResidualVQ(6, 2, 32), decoder(), RATE, HOP).eval()


def noise(items: int, length: int) -> Tensor:
    return torch.randn(items, 1, length, generator=torch.Generator().manual_seed(2)) * 0.3


# The two networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_there_is_a_frame_for_every_hop(frames: int) -> None:
    latents = encoder()(noise(2, frames * HOP))
    assert latents.shape == (2, 6, frames)
    assert decoder()(latents).shape == (2, 1, frames * HOP)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("n_fft", [32, 64])
def test_a_frame_depends_on_the_hops_within_its_context_and_on_no_other(
    layers: int, n_fft: int
) -> None:
    network, audio, hop = encoder(layers, n_fft), noise(1, 60 * HOP), 30
    louder = audio.clone()
    louder[..., hop * HOP : (hop + 1) * HOP] *= 100
    with torch.no_grad():
        change = (network(louder) - network(audio)).abs().amax(dim=(0, 1))
    changed = (change > 1e-6).nonzero().flatten()
    assert changed.min() == hop - network.context, "the bound is reached"
    assert changed.max() == hop + network.context


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("n_fft", [32, 64])
def test_samples_depend_on_the_frames_within_their_context_and_on_no_other(
    layers: int, n_fft: int
) -> None:
    network, frame = decoder(layers, n_fft), 30
    latents = torch.randn(1, 6, 60)
    other = latents.clone()
    other[..., frame] *= -20
    with torch.no_grad():
        change = (network(other) - network(latents)).abs().view(60, HOP).amax(dim=1)
    changed = (change > 1e-6).nonzero().flatten()
    assert changed.min() == frame - network.context
    assert changed.max() == frame + network.context


def test_a_frame_lies_around_the_middle_of_its_hop() -> None:
    network = encoder()
    network.backbone = nn.Identity()
    for sample, frame in ((20 * HOP + HOP // 2, 20), (7 * HOP + HOP // 2, 7)):
        click = torch.zeros(1, 1, 40 * HOP)
        click[..., sample] = 1
        energy = network(click).sum(dim=1)[0]
        assert energy.argmax() == frame
        torch.testing.assert_close(energy[frame - 1], energy[frame + 1])


def test_items_of_a_batch_do_not_touch_each_other() -> None:
    audio = noise(3, 20 * HOP)
    latents = encoder()(audio)
    sound = decoder()(latents)
    for item in range(3):
        alone = encoder()(audio[item : item + 1])
        torch.testing.assert_close(alone[0], latents[item], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decoder()(alone)[0], sound[item], rtol=1e-4, atol=1e-5)


def test_silence_and_noise_have_finite_latents_and_gradients() -> None:
    for audio in (torch.zeros(1, 1, 10 * HOP), noise(1, 10 * HOP)):
        network = encoder()
        network(audio).square().sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())


def test_loud_spectra_are_bounded() -> None:
    network = decoder()
    with torch.no_grad():
        network.backbone.end.bias.fill_(100.0)
    assert network(torch.randn(1, 6, 10)).abs().max() < 100 * N_FFT


def test_autocast_leaves_the_spectrogram_alone() -> None:
    network = encoder()
    network.backbone = nn.Identity()
    expected = network(noise(1, 20 * HOP))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(noise(1, 20 * HOP)), expected)


# Overlap-add ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_fft", "hop"), [(32, 16), (64, 16), (50, 16), (1024, 320)])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_overlap_add_inverts_its_stft_to_the_borders(n_fft: int, hop: int, frames: int) -> None:
    audio = noise(3, frames * hop)[:, 0].double()
    window = torch.hann_window(n_fft, dtype=torch.float64)
    margin = (n_fft - hop) // 2
    spectrum = torch.stft(
        F.pad(audio, (margin, margin)),
        n_fft,
        hop,
        window=window,
        center=False,
        return_complex=True,
    )
    assert spectrum.shape[-1] == frames
    torch.testing.assert_close(overlap_add(spectrum, window, hop)[:, 0], audio)


def test_overlap_add_is_linear_and_real_gradients_reach_the_spectrum() -> None:
    torch.manual_seed(0)
    window = torch.hann_window(8, dtype=torch.float64)
    parts = torch.randn(1, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: overlap_add(torch.view_as_complex(x), window, 4), (parts,)
    )


# The codec --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, HOP - 1, HOP, HOP + 1, 10 * HOP + 5])
def test_audio_of_any_length_comes_back_as_long(length: int) -> None:
    network, audio = codec(), noise(2, length)
    frames = -(-length // HOP)
    assert network.latents(audio).shape == (2, 6, frames)
    codes = network.encode(audio)
    assert codes.shape == (2, 2, frames)
    made = network(audio)
    assert made.audio.shape == audio.shape
    assert torch.equal(made.quantized.codes, codes)
    decoded = network.decode(codes)
    assert decoded.shape == (2, 1, frames * HOP)
    torch.testing.assert_close(decoded[..., :length], made.audio, rtol=1e-4, atol=1e-5)
    padded = F.pad(audio, (0, frames * HOP - length))
    assert torch.equal(network.encode(padded), codes), "padded with silence"


def test_rates_have_the_values_worked_out_by_hand() -> None:
    network = Codec(nn.Identity(), ResidualVQ(4, 8, 1024), nn.Identity(), 16000, 320)
    assert network.frame_rate == 50
    assert network.kbps() == pytest.approx(4.0)
    assert network.kbps(1) == pytest.approx(0.5)
    assert (network.n_q, network.codebook_size) == (8, 1024)
    assert Codec(nn.Identity(), ResidualVQ(4, 1, 500), nn.Identity(), 24000, 960).kbps() == (
        pytest.approx(25 * 8.965784 / 1000)
    )


def test_the_context_of_a_codec_is_that_of_both_sides() -> None:
    network = codec()
    # Three frames for the first convolution and for each block, and two hops for the window.
    assert network.encoder.context == network.decoder.context == 3 * 2 + 2
    assert network.context == 16
    assert not network.causal
    unbounded = Codec(nn.Identity(), ResidualVQ(6, 1, 4), decoder(), RATE, HOP)
    assert unbounded.context is None


def test_parts_made_for_another_hop_are_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^encoder: expected hop_length 20, found 16\.$"):
        Codec(encoder(), ResidualVQ(6, 2, 32), decoder(), RATE, 20)
    with pytest.raises(InputError, match=r"^decoder: expected hop_length 20, found 16\.$"):
        Codec(nn.Identity(), ResidualVQ(6, 2, 32), decoder(), RATE, 20)


@pytest.mark.parametrize("shape", [(1, 2, 100), (1, 100), (1, 1, 0)])
def test_audio_of_another_shape_is_refused_in_one_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^audio: expected \(B, 1, T\), found \(.*\)\.$"):
        codec().encode(torch.zeros(shape))


@pytest.mark.parametrize(("rate", "hop"), [(0, 320), (16000, 0)])
def test_rates_of_nothing_are_refused(rate: int, hop: int) -> None:
    with pytest.raises(InputError, match=": expected a whole number .*, found 0"):
        Codec(nn.Identity(), ResidualVQ(4, 1, 4), nn.Identity(), rate, hop)


@pytest.mark.parametrize("n_fft", [12, 65, 63])
def test_windows_that_fit_no_hop_are_refused_in_one_sentence(n_fft: int) -> None:
    with pytest.raises(InputError, match=rf"^n_fft: expected .* hop_length 16, .* found {n_fft}\."):
        encoder(n_fft=n_fft)


def test_a_window_under_two_hops_cannot_be_inverted_and_is_refused() -> None:
    assert encoder(n_fft=24)(noise(1, HOP * 3)).shape == (1, 6, 3)
    with pytest.raises(InputError, match="n_fft: expected at least two hops, 32, found 24"):
        decoder(n_fft=24)
