"""Picture folders: bit depths, links, and files that are left out with their reasons."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.image_folder import ImageFolderDataModule
from kdlight.errors import InputError
from kdlight.storage.pictures import open_declared


def module(path, **arguments):
    return ImageFolderDataModule(str(path), 8, channels=1, num_workers=0, heldout=0.2, **arguments)


def scans(folder, dtype, largest, suffix):
    source = np.random.default_rng(0)
    for index in range(12):
        path = folder / "ab"[index % 2] / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = source.integers(0, largest + 1, (8, 8))
        pixels[0, 0] = largest
        Image.fromarray(pixels.astype(dtype)).save(path)
    return folder


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    ("dtype", "bits", "suffix"), [(np.uint16, 12, "png"), (np.int32, 8, "tiff")]
)
def test_another_bit_depth_is_refused_and_scaled_by_its_key(tmp_path, dtype, bits, suffix, cache):
    folder = scans(tmp_path, dtype, 2**bits - 1, suffix)
    with pytest.raises(InputError, match=f"bit_depth: {bits}"):
        module(folder, cache=cache).setup()
    images = module(folder, cache=cache, bit_depth=bits).whole("reference")
    assert images.max() == 1
    assert abs(float(images.mean())) < 0.2
    with pytest.raises(InputError, match=f"up to {2 ** (bits - 1) - 1} in"):
        module(folder, cache=cache, bit_depth=bits - 1).setup()


def test_sixteen_bits_need_no_key(tmp_path):
    assert module(scans(tmp_path, np.uint16, 65535, "png")).whole("reference").max() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [(None, "bits of grey pictures, .* 4095: 16"), (8, "up to 255 in a picture, found 4095")],
)
def test_data_that_nobody_looks_through_need_their_depth_said(tmp_path, given, message):
    path = sorted(scans(tmp_path, np.uint16, 4095, "png").rglob("*.png"))[0]
    assert open_declared(path, 3, 12).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(InputError, match=f"bit_depth: expected .*{message}"):
        open_declared(path, 3, given)


@pytest.mark.parametrize("bits", [0, 33])
def test_no_such_depth(tmp_path, bits):
    with pytest.raises(InputError, match=f"bit_depth: expected 1 to 32 bits, found {bits}"):
        module(tmp_path, bit_depth=bits)


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    folder = scans(tmp_path / "x", np.uint8, 255, "png")
    store = scans(tmp_path / "store", np.uint8, 255, "png")
    for name, target in (("more", store / "a"), ("again", store / "a"), ("loop", folder)):
        (folder / "a" / name).symlink_to(target)
    data = module(folder)
    labels = torch.cat([data.whole_labels(part) for part in ("reference", "heldout")])
    assert labels.bincount().tolist() == [12, 6]


def test_files_left_out_are_counted_by_reason(tmp_path, monkeypatch):
    folder = scans(tmp_path, np.uint8, 255, "png")
    for index in range(7):
        (folder / "a" / f"text{index}.png").write_text("no picture")
    Image.new("L", (100, 100)).save(folder / "b" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(UserWarning, match="8 of 20 pictures cannot be read") as warned:
        module(folder).setup()
    (message,) = [str(w.message) for w in warned if "left out" in str(w.message)]
    assert "7 no picture: a/text0.png, a/text1.png" in message
    assert "a/text4.png, ..." in message
    assert "Pillow's limit of 2,000 pixels (make them smaller): b/huge.png" in message
