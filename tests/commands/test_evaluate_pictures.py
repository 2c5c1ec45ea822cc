"""``evaluate images --samples``: pictures are decoded as the data are; odd tensors are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kdlight.commands.shared.foreign import GivenSamples
from kdlight.errors import InputError
from tests.commands.tiny import Run

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)


def folder(place: Path, mode: str) -> Path:
    """The same twelve grey pictures in two class folders, stored in some mode."""
    for index, pixels in enumerate(PIXELS):
        path = place / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "16 bits":
            Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
        elif mode == "covered":  # the lower half is transparent, over the same noise
            alpha = np.repeat(np.uint8([[255]] * 4 + [[0]] * 4), 8, 1)
            Image.fromarray(np.dstack([pixels] * 3 + [alpha])).save(path)
        else:
            Image.fromarray(pixels).save(path)
    return place


def images(place: Path, bit_depth: int | None = None) -> Tensor:
    return torch.cat([part.image for part in GivenSamples(place, bit_depth).batches(5)])


def test_sixteen_bits_score_as_eight(tmp_path: Path) -> None:
    wide = images(folder(tmp_path / "g16", "16 bits"))
    bytes_ = images(folder(tmp_path / "g8", "8 bits"))
    assert wide.equal(bytes_)


def test_another_depth_is_refused_and_scaled_by_its_option(tmp_path: Path) -> None:
    bytes_ = images(folder(tmp_path / "g8", "8 bits"))
    for path in (tmp_path / "g8").rglob("*.png"):
        pixels = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(pixels * 16 + pixels // 16).save(path)
    with pytest.raises(InputError, match=r"--samples .* bit_depth: 12"):
        images(tmp_path / "g8")
    assert (images(tmp_path / "g8", 12) - bytes_).abs().max() < 0.02


def test_a_picture_beyond_pillows_limit_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, "8 bits")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"0\.png: cannot be read: more than Pillow's limit"):
        images(tmp_path)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    image = images(folder(tmp_path, "covered"))
    assert image.shape == (12, 3, 8, 8)
    assert image[:, :, 4:].eq(1).all()


def test_hidden_files_are_skipped_and_links_followed(tmp_path: Path) -> None:
    place, store = folder(tmp_path / "x", "8 bits"), folder(tmp_path / "store", "8 bits")
    (place / "a" / "._0.png").write_bytes(b"x")
    (place / "a" / "more").symlink_to(store)
    (place / "a" / "loop").symlink_to(place)
    assert len(GivenSamples(place)) == 24


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.astype(np.float32) / 255, "in [-1, 1], found 0 to 1, as if black were 0"),
        (lambda x: x.astype(np.float32), "in [-1, 1], found 0 to 255, as if black were 0"),
        (lambda x: x.transpose(0, 2, 3, 1) / 127.5 - 1, "as if the channels came last"),
        (lambda x: x[:, 0] / 127.5 - 1, "expected samples that are images, found shape (8, 8)"),
    ],
)
def test_another_range_or_layout_is_refused(change, words, kdlight: Run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.savez(tmp_path / "x.npz", image=change(PIXELS[:, None]))
    words_of = ["--samples", tmp_path / "x.npz", "--data", folder(tmp_path / "data", "8 bits")]
    code, _, err = kdlight("evaluate", "images", *words_of)
    assert code == 2
    assert f"--samples {tmp_path / 'x.npz'}" in err
    assert words in err


def test_broken_samples_are_counted_and_the_others_measured(kdlight: Run, tmp_path: Path) -> None:
    image = PIXELS[:, None].astype(np.float32) / 127.5 - 1
    data, rows = folder(tmp_path / "data", "8 bits"), []
    for name, pixels in (
        ("whole", image[1:]),
        ("broken", np.concatenate([image[:1] * np.nan, image[1:]])),
    ):
        np.savez(tmp_path / f"{name}.npz", image=pixels)
        words = ["--samples", tmp_path / f"{name}.npz", "--data", data]
        code, out, _ = kdlight("evaluate", "images", *words, "--output", tmp_path / "x.json")
        assert code == 0
        rows += json.loads((tmp_path / "x.json").read_text())
    assert "1 of 12 samples hold a NaN" in out
    assert rows[1].pop("non_finite") == 1
    assert rows[0] | {"model": "broken"} == rows[1]
