"""Picture folders: odd modes, broken files, crops, splits and clear refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.framing import Framing
from datamodules.images.image_folder import ImageFolderDataModule
from kdlight.errors import InputError
from kdlight.storage.pictures import largest_value, open_picture


def picture(path, seed=0, size=(12, 9), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for count in range(10):
        picture(tmp_path / "cat" / f"{count}.png", count)
        picture(tmp_path / "dog" / "deeper" / f"{count}.jpg", count + 10)
    return tmp_path


def module(path, **arguments):
    arguments = {"size": 8, "batch_size": 4, "heldout": 0.2, "num_workers": 0, **arguments}
    return ImageFolderDataModule(str(path), **arguments)


def whole(loader):
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def grey(value, channels=1):
    return np.full((4, 4, channels) if channels > 1 else (4, 4), value, np.uint8)


def palette(value):
    image = Image.fromarray(grey(7)).convert("P")
    image.putpalette([0, 0, 0] * 7 + [value, 0, value])
    return image


# A picture, and its red, green and blue and its grey (Rec. 601: 0.299 R + 0.587 G + 0.114 B).
MODES = {
    "1": (Image.fromarray(grey(255)).convert("1"), "png", (255, 255, 255), 255),
    "L": (Image.fromarray(grey(100)), "png", (100, 100, 100), 100),
    "LA, half transparent": (
        Image.fromarray(np.stack([grey(0), grey(128)], -1), "LA"),
        "png",
        (127, 127, 127),
        127,
    ),
    "P": (palette(200), "png", (200, 0, 200), 83),
    "RGBA, transparent": (
        Image.fromarray(np.concatenate([grey(9, 3), grey(0)[..., None]], -1), "RGBA"),
        "png",
        (255, 255, 255),
        255,
    ),
    "I;16": (Image.fromarray(np.full((4, 4), 100 * 257, np.uint16)), "png", (100,) * 3, 100),
    "I": (Image.fromarray(np.full((4, 4), 65535, np.int32)), "tif", (255,) * 3, 255),
    "CMYK": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tif", (255, 0, 0), 76),
    "LAB": (Image.new("LAB", (4, 4), (255, 128, 128)), "tif", (255, 255, 255), 255),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_become_the_colours_one_sees(tmp_path, mode):
    image, suffix, colour, luma = MODES[mode]
    path = tmp_path / f"x.{suffix}"
    image.save(path)
    assert (largest_value(path) is None) == (not mode.startswith("I"))
    assert open_picture(path, 3).getpixel((1, 1)) == pytest.approx(colour, abs=1)
    assert open_picture(path, 1).getpixel((1, 1)) == pytest.approx(luma, abs=1)


def test_transparent_palette_is_white(tmp_path):
    palette(200).save(tmp_path / "x.png", transparency=7)
    assert open_picture(tmp_path / "x.png", 3).getpixel((0, 0)) == (255, 255, 255)


def test_camera_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.new("RGB", (12, 5)).save(tmp_path / "x.jpg", exif=exif)
    assert open_picture(tmp_path / "x.jpg", 3).size == (5, 12)


def broken(folder):
    """Files that look like pictures; returns their number."""
    good = (folder / "cat" / "0.png").read_bytes()
    jpeg = picture(folder / "dog" / "big.jpg", size=(200, 200)).read_bytes()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "cat" / "float.tif")
    (folder / "dog" / "big.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "cat" / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "cat" / "text.png").write_text("this is no picture")
    (folder / "cat" / "empty.gif").touch()
    (folder / "cat" / "notes.txt").write_text("not meant to be one")
    (folder / "cat" / "._0.png").write_text("what macOS leaves behind")
    (folder / ".cache").mkdir()
    return 5


@pytest.mark.parametrize("cache", [False, True])
def test_broken_files_are_left_out_and_named_once(folder, cache):
    count = broken(folder)
    data = module(folder, cache=cache)
    with pytest.warns(UserWarning, match=f"{count} of 25 pictures cannot be read") as warned:
        data.setup()
    data.setup()
    (message,) = [str(w.message) for w in warned if "left out" in str(w.message)]
    assert all(name in message for name in ("big.jpg", "cut.png", "text.png", "empty.gif"))
    assert data.class_names == ["cat", "dog"]
    training, heldout = whole(data.reference_dataloader()), whole(data.heldout_dataloader())
    assert training["label"].bincount().tolist() == [8, 8]
    assert heldout["label"].bincount().tolist() == [2, 2]


@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_and_memory_give_the_same_images(folder, crop, num_workers):
    options = {"crop": crop, "resize": 10, "seed": 4, "steps_per_epoch": 6}
    files = module(folder, **options, num_workers=num_workers)
    memory = module(folder, **options, cache=True)
    for name in ("train_dataloader", "reference_dataloader", "heldout_dataloader"):
        one, two = (whole(getattr(data, name)()) for data in (files, memory))
        assert one["image"].dtype == torch.float32
        assert one["image"].abs().max() <= 1
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["label"], two["label"])


@pytest.mark.parametrize("cache", [False, True])
def test_augmentation_changes_with_the_epoch_and_resumes(folder, cache):
    def loader():
        options = {"crop": "random", "flip": True, "resize": 12, "cache": cache}
        return module(folder, **options, batch_size=16, steps_per_epoch=3).train_dataloader()

    unbroken = list(loader())
    again = loader()
    again.load_state_dict({**again.state_dict(), "batches": 1})
    resumed = next(iter(again))
    assert torch.equal(resumed["image"], unbroken[1]["image"])

    def ordered(batch):
        rows = batch["image"].flatten(1)
        return rows[rows.sum(1).argsort()]

    assert not torch.equal(ordered(unbroken[0]), ordered(unbroken[1]))


def test_the_crop_is_where_it_should_be():
    scaled = torch.arange(5 * 9, dtype=torch.uint8).view(1, 5, 9)
    framing = Framing(3, channels=1, resize=5, crop="random", flip=True)
    assert torch.equal(framing.cut(scaled), scaled[:, 1:4, 3:6])
    generator = torch.Generator().manual_seed(0)
    cuts = [framing.cut(scaled, generator)[0] for _ in range(400)]
    corners = {int(cut.min()) for cut in cuts}
    assert corners == {row * 9 + column for row in range(3) for column in range(7)}
    mirrored = sum(bool(cut[0, 0] > cut[0, 1]) for cut in cuts)
    assert 150 < mirrored < 250


@pytest.mark.parametrize("size", [(12, 9), (9, 12), (100, 3), (3, 100), (1, 1)])
@pytest.mark.parametrize("resize", [None, 11])
@pytest.mark.parametrize("frame", [8, [8, 8], [10, 8], [8, 16]])
def test_every_shape_becomes_the_frame(size, resize, frame):
    framing = Framing(frame, channels=3, resize=resize)
    _, height, width = framing.shape
    scaled = framing.scale(Image.new("RGB", size, (10, 20, 30)))
    factor = 1 if resize is None else resize / min(height, width)
    over = scaled.shape[1] / (factor * height), scaled.shape[2] / (factor * width)
    assert min(over) == pytest.approx(1, abs=0.06), "covered, and no more than that"
    assert scaled.shape[1] * size[0] == pytest.approx(scaled.shape[2] * size[1], rel=0.1)
    assert framing.cut(scaled).shape == (3, height, width)
    assert framing.cut(scaled).flatten(1).unique(dim=1).flatten().tolist() == [10, 20, 30]


@pytest.mark.parametrize("cache", [False, True])
def test_rectangles(folder, cache):
    data = module(folder, size=[8, 16], cache=cache, crop="random", flip=True)
    assert data.shape == (3, 8, 16)
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 3, 8, 16)


def test_grey_images(folder):
    data = module(folder, channels=1)
    assert next(iter(data.train_dataloader()))["image"].shape == (4, 1, 8, 8)
    assert data.shape == (1, 8, 8)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        module(tmp_path / "nowhere").setup()


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="expected pictures, or one folder per class"):
        module(tmp_path).setup()


@pytest.mark.parametrize("cache", [False, True])
def test_a_flat_folder_has_no_classes(tmp_path, cache):
    for count in range(10):
        picture(tmp_path / f"{count}.png", count)
    data = module(tmp_path, cache=cache)
    assert (data.num_classes, len(data.whole("reference"))) == (0, 8)
    assert data.whole_labels("heldout") is None


@pytest.mark.parametrize("cache", [False, True])
def test_class_folders_without_their_classes(folder, cache):
    picture(folder / "eel" / "1.png")  # too few for a class, not for a picture
    data = module(folder, cache=cache, unconditional=True)
    assert (data.num_classes, len(data.whole("reference"))) == (0, 16)


def test_pictures_beside_the_class_folders_are_named(folder):
    for index in range(7):
        picture(folder / f"{index}.png")
    with pytest.raises(InputError, match=r"found 7 beside the 2 folders \(0.png, .*4.png"):
        module(folder).setup()
    data = module(folder, unconditional=True)
    assert sum(len(data.whole(part)) for part in ("reference", "heldout")) == 27


@pytest.mark.parametrize("cache", [False, True])
def test_nothing_readable(tmp_path, cache):
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="found none that can be read and 0 that cannot"):
        module(tmp_path, cache=cache).setup()
    (tmp_path / "cat" / "x.png").write_text("no")
    with pytest.raises(InputError, match="and 1 that cannot"):
        module(tmp_path, cache=cache).setup()


def test_a_class_with_one_image(folder):
    picture(folder / "eel" / "1.png")
    with pytest.raises(InputError, match="class 'eel': expected at least 2 images"):
        module(folder).setup()


def test_a_part_too_small_for_the_classes(folder):
    with pytest.raises(InputError, match=r"heldout: 0\.01 of 20 images"):
        module(folder, heldout=0.01).setup()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"heldout": 0.0}, "heldout: expected a fraction"),
        ({"channels": 4}, "channels: expected 1 or 3, found 4"),
        ({"resize": 6}, "resize: expected at least 8, found 6"),
        ({"size": 0}, "size: expected at least 1, found 0"),
        ({"size": [8]}, r"size: expected a side or \[height, width\], found \[8\]"),
        ({"resize": 9, "size": [16, 10]}, "resize: expected at least 10, found 9"),
        ({"labels": "x.csv", "unconditional": True}, "labels: expected null beside"),
    ],
)
def test_bad_arguments(tmp_path, argument, words):
    with pytest.raises(InputError, match=words):
        module(tmp_path, **argument)
