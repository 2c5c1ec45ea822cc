import zipfile

import numpy as np
import pytest
import torch

from kdlight.errors import InputError
from kdlight.storage.arrays import ArrayImages, holds_images, write_images

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 6, 5, 3), np.uint8)
LABELS = np.arange(23) % 4


def test_what_numpy_writes_is_read_in_batches(tmp_path):
    np.savez(tmp_path / "x.npz", PIXELS, LABELS)  # as OpenAI's sampling scripts do
    assert holds_images(tmp_path / "x.npz")
    images = ArrayImages(tmp_path / "x.npz")
    assert (len(images), images.shape) == (23, (3, 6, 5))
    parts = list(images.batches(10))
    assert [len(part) for part in parts] == [10, 10, 3]
    assert np.array_equal(torch.cat(parts).permute(0, 2, 3, 1).numpy(), PIXELS)
    assert images.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_written_numpy_reads(tmp_path, labelled):
    path = tmp_path / "x.npz"
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    labels = torch.from_numpy(LABELS)
    parts = [
        (images[part], labels[part] if labelled else None) for part in (slice(0, 9), slice(9, 23))
    ]
    write_images(path, parts, 23, (3, 6, 5))
    with np.load(path, allow_pickle=False) as archive:
        assert archive.files == (["arr_0", "arr_1"] if labelled else ["arr_0"])
        assert np.array_equal(archive["arr_0"], PIXELS)
        if labelled:
            assert np.array_equal(archive["arr_1"], LABELS)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((PIXELS.astype(np.float32),), "expected arr_0 to be uint8 images .* found float32"),
        ((PIXELS[0],), r"of shape \(6, 5, 3\)"),
        ((PIXELS.transpose(0, 3, 1, 2),), r"of shape \(23, 3, 6, 5\)"),
        ((np.asfortranarray(PIXELS),), "in Fortran order"),
        ((PIXELS, LABELS[:5]), "arr_1 to be a whole number for each of 23 images"),
        ((PIXELS, LABELS / 2), "found float64"),
        ((PIXELS, np.array([None] * 23)), "arr_1 to be a whole number"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", *arrays)
    with pytest.raises(InputError, match=words):
        ArrayImages(tmp_path / "x.npz")


def test_a_file_that_ends_early_and_one_of_pickles(tmp_path):
    header = np.lib.format
    description = {"descr": "|u1", "fortran_order": False, "shape": (9, 6, 5, 3)}
    with (
        zipfile.ZipFile(tmp_path / "short.npz", "w") as archive,
        archive.open("arr_0.npy", "w") as stream,
    ):
        header.write_array_header_1_0(stream, description)
        stream.write(PIXELS[:4].tobytes())
    images = ArrayImages(tmp_path / "short.npz")
    with pytest.raises(InputError, match="short.npz: truncated at image 3"):
        list(images.batches(3))
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("arr_0.npy", b"nothing")
    with pytest.raises(InputError, match="expected arr_0 to be an array"):
        ArrayImages(tmp_path / "odd.npz")
    assert not holds_images(tmp_path / "none.npz")
