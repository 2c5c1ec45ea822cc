"""A codec as a teacher: its latents on another codec's grid, and its codes."""

from pathlib import Path

import pytest
import torch

from kdlight.codec.codec import Codec
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder
from kdlight.codec.frames import FrameGrid
from kdlight.codec.quantization import ResidualVQ
from kdlight.errors import InputError
from kdlight.storage.files import save_model
from kdlight.teachers.codec import CodecTeacher


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    small = {"n_fft": 128, "width": 8, "layers": 1}
    codec = Codec(
        MelEncoder(6, 8000, 64, n_mels=8, **small),
        ResidualVQ(6, 3, 5),
        SpectrumDecoder(6, 64, **small),
        8000,
        64,
    )
    codec.train()
    codec(0.1 * torch.randn(2, 1, 6400))
    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    save_model(codec, path)
    return path


def test_features_are_what_the_codes_stand_for(path: Path) -> None:
    audio = 0.1 * torch.randn(1, 1, 1000)
    whole, first = CodecTeacher(str(path)), CodecTeacher(str(path), n_q=1)
    length = torch.tensor([audio.shape[2]])
    assert whole.codes(audio, length).shape == (1, 3, 16)
    assert torch.equal(
        first.codes(audio, length),
        whole.codes(audio, length)[:, :1],
    )
    for teacher in (whole, first):
        expected = teacher.codec.quantizer.decode(teacher.codes(audio, length)).transpose(1, 2)
        torch.testing.assert_close(teacher(audio).features, expected)
    assert whole.identity() != first.identity()
    before = CodecTeacher(str(path), features="encoder")(audio).features
    torch.testing.assert_close(before, whole.codec.latents(audio).transpose(1, 2))


def test_another_grid_and_ragged_lengths(path: Path) -> None:
    teacher = CodecTeacher(str(path))
    audio = 0.1 * torch.randn(2, 1, 1280)
    own = teacher(audio).features
    slow = teacher(audio, grid=FrameGrid(8000, 128))
    torch.testing.assert_close(slow.features, own.unflatten(1, (-1, 2)).mean(2))
    ragged = teacher(audio, torch.tensor([1280, 100]))
    assert ragged.mask.sum(1).tolist() == [20, 2]
    torch.testing.assert_close(ragged.features[1, :2], teacher(audio[1:, :, :100]).features[0])


def test_codes_of_an_utterance_are_those_without_its_padding(path: Path) -> None:
    teacher = CodecTeacher(str(path), n_q=2)
    audio = 0.1 * torch.randn(3, 1, 1280)
    found = teacher.codes(audio, torch.tensor([1280, 100, 1280]))
    assert found.shape == (3, 2, 20)
    alone = teacher.codec.encode(audio[1:2, :, :100], 2)
    assert torch.equal(found[1:2, :, : alone.shape[2]], alone)
    assert torch.equal(found[::2], teacher.codec.encode(audio[::2], 2))


def test_bad_input_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n_q: expected 1 to 3, found 4"):
        CodecTeacher(str(path), n_q=4)
    with pytest.raises(InputError, match="features: expected"):
        CodecTeacher(str(path), features="audio")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such file"):
        CodecTeacher(str(tmp_path / "none.safetensors"))
    save_model(ResidualVQ(4, 2, 3), tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="expected a codec, found ResidualVQ"):
        CodecTeacher(str(tmp_path / "part.safetensors"))
