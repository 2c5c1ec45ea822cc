"""EDM2's files of latents: drawn from their posteriors, from a zip or a folder."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.images.latent_files import LatentFilesDataModule
from kdlight.errors import InputError
from kdlight.teachers.published.edm2_latents import standardized
from tests.datamodules.images.latent_archives import latent_zip

SHAPE = (4, 16, 16)


def module(path: Path, **settings: object) -> LatentFilesDataModule:
    return LatentFilesDataModule(
        str(path), **{"heldout": 0.25, "batch_size": 5, "num_workers": 0, **settings}
    )


def test_latents_are_draws_of_the_posterior(tmp_path: Path) -> None:
    path = latent_zip(tmp_path / "img512-sd.zip")
    data = module(path)
    assert (data.shape, data.num_classes) == (SHAPE, 2)
    training, held = data.splits.training, data.splits.heldout
    drawn = torch.stack([training[0, epoch]["image"] for epoch in range(400)])
    mean, std = data.archive.array(training.names[0])
    scale = 0.5 / torch.tensor([4.17, 4.62, 3.71, 3.28]).reshape(-1, 1, 1)
    torch.testing.assert_close(drawn.mean(0), standardized(mean), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.std(0), std * scale, rtol=0.25, atol=0)
    assert torch.equal(training[0, 3]["image"], drawn[3]), "a function of sample and epoch"
    exact = standardized(data.archive.array(held.names[0])[0])
    assert torch.equal(held[0, 0]["image"], exact), "what is held out is the mean"
    assert not set(held.names) & set(training.names)
    batch = next(iter(data.make_train_loader()))
    assert batch["image"].shape == (5, *SHAPE)
    assert batch["label"].dtype == torch.int64


def test_a_folder_and_workers_give_the_same(tmp_path: Path) -> None:
    path = latent_zip(tmp_path / "img512-sd.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    expected = next(iter(module(path).make_train_loader()))
    for other in (module(tmp_path / "folder"), module(path, num_workers=2)):
        found = next(iter(other.make_train_loader()))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.zip: no such file"):
        _ = module(tmp_path / "none.zip").class_names
    path = latent_zip(tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"b\.zip: expected dataset\.json in it, found none"):
        _ = module(tmp_path / "b.zip").class_names
    pickled = BytesIO()
    np.save(pickled, np.array([None]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("dataset.json", json.dumps({"labels": [["x.npy", 0], ["y.npy", 0]]}))
        archive.writestr("x.npy", pickled.getvalue())
    with pytest.raises(InputError, match=r"x\.npy: expected an array of means and standard dev"):
        _ = module(tmp_path / "c.zip").shape
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("dataset.json", json.dumps({"labels": None}))
    with pytest.raises(InputError, match=r"dataset\.json: expected labels as pairs"):
        _ = module(tmp_path / "d.zip").class_names
