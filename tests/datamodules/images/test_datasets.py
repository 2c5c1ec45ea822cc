"""Digits, MNIST, mixtures and CIFAR-10: what is in them and how it is split."""

import hashlib
import pickle

import jsonargparse
import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from datamodules.images.cifar10 import CIFAR10DataModule
from datamodules.images.digits import DigitsDataModule
from datamodules.images.mixture import GaussianMixtureDataModule, ring, square
from datamodules.images.mnist5k import MNIST5kDataModule
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.errors import InputError


def whole(loader):
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def check(data, training, heldout, per_class=None):
    """Shapes, types and range of both parts; returns them."""
    parts = whole(data.reference_dataloader()), whole(data.heldout_dataloader())
    for part, count in zip(parts, (training, heldout), strict=True):
        assert part["image"].shape == (count, *data.shape)
        assert part["image"].dtype == torch.float32
        assert part["image"].min() == -1
        assert part["image"].max() == 1
        assert part["label"].dtype == torch.int64
        if per_class:
            assert set(part["label"].bincount().tolist()) == {count // data.num_classes}
    assert data.num_classes == len(data.class_names) == 10
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (data.batch_size, *data.shape)
    return parts


def test_digits_are_the_documented_split():
    data = DigitsDataModule()
    training, heldout = check(data, 1437, 360)
    pixels, target = load_digits(return_X_y=True)
    keep, held = train_test_split(np.arange(1797), test_size=360, stratify=target, random_state=0)
    for part, index in ((training, keep), (heldout, held)):
        expected = torch.from_numpy(pixels[index]).float().view(-1, 1, 8, 8) / 8 - 1
        assert torch.equal(part["image"], expected)
        assert torch.equal(part["label"], torch.from_numpy(target[index]))


def test_labels_are_those_of_the_whole_parts():
    data = DigitsDataModule()
    for part, loader in (
        ("reference", data.reference_dataloader()),
        ("heldout", data.heldout_dataloader()),
    ):
        expected = whole(loader)
        assert torch.equal(data.whole(part), expected["image"])
        assert torch.equal(data.whole_labels(part), expected["label"])
    assert GaussianMixtureDataModule(ring(), 20, 20).whole_labels("reference") is None
    points = GaussianMixtureDataModule(ring(labelled=True), 20, 20)
    nearest = torch.cdist(points.whole("heldout").double(), ring().means).argmin(1)
    assert torch.equal(points.whole_labels("heldout"), nearest)


def test_the_split_does_not_depend_on_the_seed_but_the_order_does():
    first, second = DigitsDataModule(seed=0), DigitsDataModule(seed=1)
    assert torch.equal(
        whole(first.heldout_dataloader())["image"], whole(second.heldout_dataloader())["image"]
    )
    one, two = (next(iter(data.train_dataloader())) for data in (first, second))
    assert not torch.equal(one["image"], two["image"])


def test_mnist_padded_is_mnist_in_a_black_frame():
    small, _ = check(MNIST5kDataModule(), 4000, 1000, per_class=True)
    large, _ = check(MNIST5kDataModule(size=32), 4000, 1000, per_class=True)
    assert torch.equal(large["image"][:, :, 2:-2, 2:-2], small["image"])
    assert (large["image"][:, :, :2] == -1).all()


def test_mixture_draws_have_its_moments():
    data = GaussianMixtureDataModule(ring(labelled=True), num_samples=40_000, seed=3)
    assert data.shape == (2,)
    assert data.num_classes == 8
    points = whole(data.reference_dataloader())
    for label in range(8):
        mine = points["image"][points["label"] == label].double()
        assert abs(len(mine) - 5000) < 5 * 5000**0.5
        error = mine.mean(0) - data.mixture.means[label]
        assert error.abs().max() < 5 * 0.03 / len(mine) ** 0.5
        assert mine.std(0).sub(0.03).abs().max() < 0.002
    assert points["image"].std(0).sub(0.5).abs().max() < 0.01
    heldout = whole(data.heldout_dataloader())["image"]
    assert not torch.equal(heldout, points["image"][: len(heldout)])


def test_unlabelled_mixture_has_no_labels():
    data = GaussianMixtureDataModule(square(side=3), num_samples=10, num_heldout=5)
    assert data.num_classes == 0
    assert next(iter(data.train_dataloader())).keys() == {"image"}


def test_square_lies_on_its_lattice():
    means = square(side=3, extent=0.6).means
    ticks = torch.tensor([-0.6, 0.0, 0.6], dtype=torch.float64)
    torch.testing.assert_close(means, torch.cartesian_prod(ticks, ticks).flip(1))


@pytest.mark.parametrize(
    ("path", "arguments", "components"),
    [
        ("datamodules.images.mixture.ring", {"components": 5}, 5),
        ("datamodules.images.mixture.square", {"side": 3}, 9),
        ("kdlight.diffusion.mixture.MixtureDenoiser", {"means": [[0.0, 1.0]]}, 1),
    ],
)
def test_a_config_names_a_mixture(path, arguments, components):
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(GaussianMixtureDataModule, "data")
    config = {"data": {"mixture": {"class_path": path, "init_args": arguments}}}
    data = parser.instantiate_classes(parser.parse_object(config)).data
    assert type(data.mixture) is MixtureDenoiser
    assert len(data.mixture.means) == components


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    """A folder in CIFAR-10's format with 20 training and 4 held-out images, checksums and all."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return hashlib.md5(raw).hexdigest()

    def part(name, count, value):
        pixels = np.full((count, 3072), value, np.uint8)
        pixels[:, 0] = 0  # red, top left
        return [name, write(name, {"data": pixels, "labels": [1] * count})]

    names = {"label_names": CIFAR10DataModule().class_names}
    fake = {
        "train_list": [part(f"data_batch_{k}", 4, 50 * k) for k in range(1, 6)],
        "test_list": [part("test_batch", 4, 255)],
        "meta": {
            "filename": "batches.meta",
            "key": "label_names",
            "md5": write("batches.meta", names),
        },
    }
    for name, value in fake.items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    return tmp_path


def test_cifar_reads_its_format(tiny_cifar):
    data = CIFAR10DataModule(str(tiny_cifar), flip=False, batch_size=4)
    data.prepare_data()
    assert data.shape == (3, 32, 32)
    assert data.class_names == torchvision.datasets.CIFAR10(tiny_cifar).classes
    training = whole(data.reference_dataloader())["image"]
    assert training.shape == (20, 3, 32, 32)
    assert training[:, 1, 5, 5].unique().tolist() == pytest.approx(
        [50 * k / 127.5 - 1 for k in range(1, 6)]
    )
    assert (training[:, 0, 0, 0] == -1).all()
    assert whole(data.heldout_dataloader())["label"].tolist() == [1] * 4
    flipped = CIFAR10DataModule(str(tiny_cifar), batch_size=20)
    batch = next(iter(flipped.train_dataloader()))["image"]
    assert ((batch[:, 0, 0, 0] == -1) ^ (batch[:, 0, 0, -1] == -1)).all()
    assert 0 < (batch[:, 0, 0, -1] == -1).sum() < 20


def test_cifar_refuses_a_changed_file(tiny_cifar):
    (tiny_cifar / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"not the same")
    with pytest.raises(InputError, match="found no whole copy"):
        CIFAR10DataModule(str(tiny_cifar)).setup()


def test_cifar_without_data_or_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://localhost:9/none.tar.gz")
    data = CIFAR10DataModule(str(tmp_path))
    with pytest.raises(InputError, match="downloading it failed"):
        data.prepare_data()
    with pytest.raises(InputError, match="found no whole copy"):
        CIFAR10DataModule(str(tmp_path), download=False).setup()
