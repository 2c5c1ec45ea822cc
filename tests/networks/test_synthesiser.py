"""Front end, WaveNet, and the synthesiser made of them."""

import sys

import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.errors import InputError
from kdlight.networks.speech.front_end import Bins, regulate
from kdlight.networks.speech.phone_text import PHONES, read_phones
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.networks.speech.wavenet import WaveNet
from tests.modules.speech.synthesis_cases import tiny_teacher


def condition(model):
    durations = torch.tensor([[3, 2, 4], [2, 5, 0]])
    mask = torch.arange(9) < durations.sum(dim=1, keepdim=True)
    return {
        "phones": torch.tensor([[1, 5, 1], [7, 1, 0]]),
        "durations": durations,
        "pitch": torch.full((2, 9), 5.1),
        "energy": torch.linspace(-1, 1, 18).reshape(2, 9),
        "speaker": model.table,
        "mask": mask,
    }


def padded(told, frames=50):
    """The same batch with frames and a phone of padding more."""
    made = dict(told)
    for name in ("pitch", "energy"):
        made[name] = torch.nn.functional.pad(told[name], (0, frames), value=3.0)
    made["mask"] = torch.nn.functional.pad(told["mask"], (0, frames))
    for name in ("phones", "durations"):
        made[name] = torch.nn.functional.pad(told[name], (0, 1))
    return made


def test_the_length_regulator_repeats_each_phone_as_long_as_it_lasts():
    states = torch.arange(1.0, 9).reshape(1, 4, 2)
    durations = torch.tensor([[2, 0, 3, 1]])
    found = regulate(states, durations, 8)
    expected = states[0].repeat_interleave(durations[0], dim=0)
    assert torch.equal(found[0, :6], expected)
    assert not found[0, 6:].any(), "nothing lies behind the last phone"
    counts = [(found[0, :6] == row).all(dim=1).sum().item() for row in states[0]]
    assert counts == durations[0].tolist(), "a phone of no frames leaves none"


def test_padding_has_no_part_in_any_frame():
    model = tiny_teacher()
    told = condition(model)
    short, long = model.front_end(told), model.front_end(padded(told))
    torch.testing.assert_close(long.frames[..., :9], short.frames)
    assert not long.frames[..., 9:].any()
    torch.testing.assert_close(long.log_durations[:, :3], short.log_durations)
    torch.testing.assert_close(long.pitch[:, :9], short.pitch)
    noise = torch.randn(2, 10, 59)
    drawn = model.draw(told, noise[..., :9])
    torch.testing.assert_close(model.draw(padded(told), noise)[..., :9], drawn)
    alone = {name: value[1:] for name, value in told.items()}
    torch.testing.assert_close(model.draw(alone, noise[1:, :, :9]), drawn[1:])


def test_wavenet_starts_at_nothing_and_wants_to_be_told():
    network = WaveNet(10, 8, 8, 2)
    told = {"frames": torch.randn(2, 8, 9), "mask": torch.ones(2, 9, dtype=torch.bool)}
    assert not network(torch.randn(2, 10, 9), torch.tensor([3.0, 900.0]), told).any()
    with pytest.raises(InputError, match="condition: expected frames and mask, found mask"):
        network(torch.randn(2, 10, 9), torch.zeros(2), {"mask": told["mask"]})
    with pytest.raises(InputError, match="kernel: expected an odd number, found 2"):
        WaveNet(kernel=2)


def test_bins_mix_the_two_beside_a_value():
    bins = Bins(5, 0.0, 4.0, 3)
    rows = bins.embedding.weight
    torch.testing.assert_close(bins(torch.tensor([2.0, -1.0, 9.0])), rows[[2, 0, 4]])
    torch.testing.assert_close(bins(torch.tensor([1.25])), (0.75 * rows[1] + 0.25 * rows[2])[None])


def test_what_is_known_stays_and_the_rest_is_predicted():
    model = tiny_teacher()
    told = condition(model)
    found = model.front_end.predict({name: told[name] for name in ("phones", "speaker")})
    assert found.keys() == told.keys()
    assert (found["durations"][told["phones"] > 0] >= 1).all()
    assert int(found["durations"][1, 2]) == 0, "padding lasts no frame"
    assert torch.equal(found["mask"].sum(1), found["durations"].sum(1))
    kept = model.front_end.predict(told)
    assert all(torch.equal(kept[name], told[name]) for name in told)


def test_a_synthesiser_is_rebuilt_from_its_file():
    model = tiny_teacher()
    again = build(spec_of(model))
    again.load_state_dict(model.state_dict())
    said = "hh-ah-l-ow"
    assert torch.equal(again.eval().speak(said, 1).mel, model.speak(said, 1).mel)
    two = model.of(model.grid, 2)
    assert build(spec_of(two)).steps == (2,)
    with pytest.raises(InputError, match="steps: expected 2, for which it was made, found 4"):
        two.speak(said, steps=4)


def test_it_speaks_any_text_the_same_way_each_time():
    model = tiny_teacher()
    spoken = model.speak("hh-ah-l-ow, w-er-l-d.", 1, seed=3)
    assert torch.equal(spoken.mel, model.speak("hh-ah-l-ow, w-er-l-d.", 1, seed=3).mel)
    assert not torch.equal(spoken.mel, model.speak("hh-ah-l-ow, w-er-l-d.", 1, seed=4).mel)
    assert spoken.audio.shape == (1, spoken.mel.shape[1] * model.log_mel.hop_length)
    assert spoken.audio.isfinite().all()
    with pytest.raises(InputError, match="speaker: expected a voice from 0 to 1, found 2"):
        model.speak("iy", 2)


def test_texts_become_pieces_of_phones():
    numbers = {name.lower(): index + 1 for index, name in enumerate(PHONES)}
    hello = [numbers[name] for name in ("hh", "ah", "l", "ow")]
    assert read_phones("HH-AH-L-OW", PHONES) == [[1, *hello, 1]]
    assert read_phones("hh-ah-l-ow, hh-ah-l-ow.", PHONES) == [[1, *hello, 1, *hello, 1]]
    assert read_phones("hh-ah-l-ow. hh-ah-l-ow", PHONES) == [[1, *hello, 1]] * 2
    long = read_phones("hh-ah-l-ow " * 455, PHONES)
    assert sum(len(piece) - 2 for piece in long) == 4 * 455
    assert max(map(len, long)) <= 38
    for text in ("", "  ", ".,", "sil"):
        with pytest.raises(InputError, match="text: expected words of phones such as"):
            read_phones(text, PHONES)
    with pytest.raises(InputError, match="found 'ahh' in 'hh-ahh'"):
        read_phones("hh-ahh", PHONES)
    with pytest.raises(InputError, match="text: expected English, found '日' in '日本'"):
        read_phones("日本", PHONES)


SPELLED = {
    "Hello, world.": "hh-ah-l-ow, w-er-l-d.",
    "hh-ah-l-ow friend": "hh-ah-l-ow f-r-eh-n-d",
    "Smith has 2 T-shirts!": "s-m-ih-th hh-ah-z t-uw t-iy-sh-er-t-s!",
    # A flap is a d, a stop in the throat nothing, an affricate two phones.
    "the judge's bottle; button": "dh-ah d-zh-ah-d-zh-ih-z b-aa-d-ah-l; b-ah-n",
    # A piece of phones alone is phones, whatever it would be as a word.
    "ah": "ah",
}


@pytest.mark.parametrize("text", SPELLED)
def test_english_is_spelled(text):
    pytest.importorskip("piper")
    assert read_phones(text, PHONES) == read_phones(SPELLED[text], PHONES)


def test_without_the_package_only_phones_are_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "piper.phonemize_espeak", None)
    assert read_phones("hh-ah-l-ow", PHONES)
    with pytest.raises(InputError, match=r"hh-ah-l-ow, or the package piper-tts .*speech-demo"):
        read_phones("hello", PHONES)


@pytest.mark.parametrize(("bands", "content"), [(10, 4), (12, 8)])
def test_a_denoiser_is_told_what_the_front_end_says(bands, content):
    model = tiny_teacher()
    denoiser = VPDenoiser(WaveNet(bands, content, 8, 1), "cosine", "sample", 1.0)
    with pytest.raises(InputError, match="denoiser: expected 10 bands and the front end's width"):
        Synthesiser(model.front_end, denoiser, model.grid, 2, model.log_mel)
