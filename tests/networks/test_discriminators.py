"""Discriminators of audio: judges, layers and sizes as published, borders, bad input."""

import pytest
import torch
from encodec.msstftd import MultiScaleSTFTDiscriminator as PublishedSTFT
from torch import Tensor, nn

from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError
from kdlight.networks.speech.judges import ConvStack, Discriminator, Ensemble
from kdlight.networks.speech.period import MultiPeriodDiscriminator
from kdlight.networks.speech.scale import MultiScaleDiscriminator
from kdlight.networks.speech.spectrogram import (
    MultiBandDiscriminator,
    MultiScaleSTFTDiscriminator,
)

SMALL = {
    "period": lambda: MultiPeriodDiscriminator(channels=2),
    "scale": lambda: MultiScaleDiscriminator(channels=16),
    "stft": lambda: MultiScaleSTFTDiscriminator(channels=2),
    "band": lambda: MultiBandDiscriminator(channels=2),
}
# Judges, and inner layers of each, of the published networks.
PUBLISHED = {"period": (5, 5), "scale": (3, 7), "stft": (5, 5), "band": (3, 25)}
each_kind = pytest.mark.parametrize("kind", sorted(SMALL))


def make(kind: str) -> Discriminator:
    torch.manual_seed(0)
    return SMALL[kind]()


def noise(items: int = 2, length: int = 4000) -> Tensor:
    return torch.randn(items, 1, length, generator=torch.Generator().manual_seed(1)) * 0.3


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@each_kind
def test_judges_and_layers_are_as_many_as_published(kind: str) -> None:
    judgements = make(kind)(noise())
    judges, layers = PUBLISHED[kind]
    assert [len(each.features) for each in judgements] == [layers] * judges
    for each in judgements:
        assert all(part.shape[0] == 2 for part in (each.logits, *each.features))
        assert each.logits.shape[1] == 1


def size(*layers: tuple[int, int, int]) -> int:
    """Weights of layers of (inputs a group, outputs, kernel), their biases and norms."""
    return sum(inputs * outputs * kernel + 2 * outputs for inputs, outputs, kernel in layers)


# By hand, from the tables of HiFi-GAN, EnCodec and DAC.
PERIOD = size(
    (1, 32, 5), (32, 128, 5), (128, 512, 5), (512, 1024, 5), (1024, 1024, 5), (1024, 1, 3)
)
SCALE = size(
    (1, 128, 15),
    (32, 128, 41),
    (8, 256, 41),
    (16, 512, 41),
    (32, 1024, 41),
    (64, 1024, 41),
    (1024, 1024, 5),
    (1024, 1, 3),
)
STFT = size((2, 32, 27), (32, 32, 27), (32, 32, 27), (32, 32, 27), (32, 32, 9), (32, 1, 9))
BAND = 5 * size((2, 32, 27), (32, 32, 27), (32, 32, 27), (32, 32, 27), (32, 32, 9))


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (MultiPeriodDiscriminator, 5 * PERIOD),
        (MultiScaleDiscriminator, 3 * SCALE),
        (MultiScaleSTFTDiscriminator, 5 * STFT),
        (MultiBandDiscriminator, 3 * (BAND + size((32, 1, 9)))),
    ],
)
def test_parameters_are_as_many_as_published(cls: type[Discriminator], expected: int) -> None:
    with torch.device("meta"):  # tens of millions that nobody computes with
        assert count(cls()) == expected


def test_the_published_sums_are_the_known_sizes() -> None:
    assert round(5 * PERIOD / 1e6, 1) == 41.1
    assert round(3 * SCALE / 1e6, 1) == 29.6


def stft_like_published(published: PublishedSTFT, n_fft: int) -> MultiScaleSTFTDiscriminator:
    ours = MultiScaleSTFTDiscriminator((n_fft,), channels=4)
    source = published.discriminators[0]
    layers = [*source.convs, source.conv_post]
    with torch.no_grad():
        for mine, theirs in zip(ours.judges[0].convolutions, layers, strict=True):
            mine.weight = theirs.conv.weight.detach().clone()
            mine.bias.copy_(theirs.conv.bias)
    return ours


def test_the_stft_judge_computes_what_encodecs_does_inside() -> None:
    torch.manual_seed(0)
    published = PublishedSTFT(4, n_ffts=[128], hop_lengths=[32], win_lengths=[128])
    audio = noise(length=50 * 32)
    (logits,), (features,) = published(audio)
    ours = stft_like_published(published, 128)
    (found,) = ours(audio)
    # Ours begins two frames earlier; ten frames from a border the padding is out of sight.
    assert found.logits.shape[2] == logits.shape[2] + 4
    for mine, theirs in zip((found.logits, *found.features), (logits, *features), strict=True):
        torch.testing.assert_close(mine[:, :, 12:-12], theirs[:, :, 10:-10], rtol=1e-4, atol=1e-5)
    # The norm of the first layer is the one thing more.
    assert count(ours) == count(published) + 4


@each_kind
def test_every_convolution_is_weight_normalised(kind: str) -> None:
    for layer in make(kind).modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            assert hasattr(layer.parametrizations.weight, "original1")


@each_kind
def test_logits_have_a_gradient_in_the_audio_and_in_every_weight(kind: str) -> None:
    network, audio = make(kind), noise().requires_grad_()
    sum(each.logits.square().sum() for each in network(audio)).backward()
    assert audio.grad.isfinite().all()
    assert audio.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@each_kind
def test_items_of_a_batch_do_not_touch_each_other(kind: str) -> None:
    network, audio = make(kind), noise()
    for whole, alone in zip(network(audio), network(audio[1:]), strict=True):
        torch.testing.assert_close(whole.logits[1:], alone.logits, rtol=1e-4, atol=1e-5)


@each_kind
@pytest.mark.parametrize("length", [11, 12, 100])
def test_short_audio_is_judged(kind: str, length: int) -> None:
    for each in make(kind)(noise(length=length)):
        assert each.logits.numel() > 0
        assert each.logits.isfinite().all()


@pytest.mark.parametrize("length", [1, 10])
def test_audio_under_one_period_is_refused_in_one_sentence(length: int) -> None:
    message = rf"^audio: expected at least 11 samples, the longest period, found {length}\.$"
    with pytest.raises(InputError, match=message):
        make("period")(noise(length=length))


def test_a_period_sees_every_so_manieth_sample() -> None:
    network = MultiPeriodDiscriminator((5,), channels=2)
    audio = noise(1, 500)
    other = audio.clone()
    other[..., 3::5] = 0
    (a,), (b,) = network(audio), network(other)
    changed = (a.logits != b.logits).any(dim=2).flatten()
    assert changed.tolist() == [False, False, False, True, False]


def test_later_scales_hear_averages() -> None:
    network = MultiScaleDiscriminator(channels=16)
    lengths = [each.logits.shape[-1] for each in network(noise(1, 6400))]
    # Strides 2, 2, 4, 4; each scale halves, with one sample more for the padding.
    assert lengths == [100, 51, 26]
    alternating = torch.tensor([1.0, -1.0]).repeat(3200)[None, None]
    with torch.no_grad():
        _, heard, _ = network(alternating)
        _, silent, _ = network(torch.zeros(1, 1, 6400))
    torch.testing.assert_close(heard.logits[..., 5:-5], silent.logits[..., 5:-5])


def test_bands_cover_the_spectrum_once() -> None:
    network = make("band")
    seen: list[list[int]] = []

    def look(module: nn.Module, arguments: tuple[list[Tensor]]) -> None:
        seen.append([part.shape[-1] for part in arguments[0]])

    for judge in network.judges:
        judge.register_forward_pre_hook(look)
    network(noise())
    assert [sum(parts) for parts in seen] == [1025, 513, 257]
    assert seen[0] == [102, 154, 256, 256, 257]


def test_a_spectrogram_has_one_size_of_numbers_at_all_windows() -> None:
    network = make("stft")
    powers = [float(each(noise(1, 40000)).square().mean()) for each in network.spectrograms]
    # White noise of variance 0.09: half of it in each of the two parts.
    assert powers == pytest.approx([0.045] * 5, rel=0.2)


def test_an_ensemble_has_the_judgements_of_its_members_in_order() -> None:
    members = [make("scale"), make("period")]
    found = Ensemble(members)(noise())
    expected = [each for member in members for each in member(noise())]
    assert len(found) == 8
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.logits, theirs.logits)


@each_kind
def test_a_discriminator_is_described_and_built_again(kind: str) -> None:
    network = make(kind)
    rebuilt = build(spec_of(Ensemble([network]))).members[0]
    rebuilt.load_state_dict(network.state_dict())
    for mine, theirs in zip(network(noise()), rebuilt(noise()), strict=True):
        assert torch.equal(mine.logits, theirs.logits)


def test_features_are_taken_after_the_activation_and_logits_before() -> None:
    stack = ConvStack([nn.Conv1d(1, 1, 1), nn.Conv1d(1, 1, 1)], slope=0.1)
    for layer in stack.convolutions:
        with torch.no_grad():
            layer.weight = torch.ones(1, 1, 1)
            layer.bias.zero_()
    made = stack(torch.tensor([[[-2.0, 3.0]]]))
    torch.testing.assert_close(made.features[0], torch.tensor([[[-0.2, 3.0]]]))
    torch.testing.assert_close(made.logits, torch.tensor([[[-0.2, 3.0]]]))


def test_bad_settings_are_refused_in_one_sentence() -> None:
    for make_it, message in (
        (lambda: Ensemble([]), "members: expected at least one discriminator, found none"),
        (lambda: MultiScaleDiscriminator(channels=8), "channels: expected a multiple of 16"),
        (lambda: MultiBandDiscriminator(bands=[(0.5, 0.2)]), "bands: expected 0 <= start < stop"),
        (lambda: MultiBandDiscriminator((512, 16)), "bands: expected a bin in each of the 9 of"),
    ):
        with pytest.raises(InputError, match=message):
            make_it()
