"""Data sets of the datasets library, from local folders: rows, streams, resume, refusals."""

import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.hf_images import HFImagesDataModule
from kdlight.errors import InputError

datasets = pytest.importorskip("datasets")
SIZE = 23


@pytest.fixture(scope="module", autouse=True)
def private_cache(tmp_path_factory):
    """The library's cache in a temporary folder, and no look at the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield


def rows(count, offset=0):
    """Constant pictures whose grey value is their number."""
    pictures = [Image.new("L", (6, 5), offset + k) for k in range(count)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    columns = {"image": pictures, "label": [k % 2 for k in range(count)]}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """A folder of Parquet files: training in three pieces of 10, 10 and 3 rows, test in one."""
    folder = tmp_path_factory.mktemp("parquet")
    training = rows(SIZE)
    for piece, (start, stop) in enumerate([(0, 10), (10, 20), (20, SIZE)]):
        path = folder / f"train-{piece:05d}-of-00003.parquet"
        training.select(range(start, stop)).to_parquet(path)
    rows(7, offset=100).to_parquet(folder / "test-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    datasets.DatasetDict(train=rows(SIZE), test=rows(7, offset=100)).save_to_disk(folder)
    return str(folder)


def module(path, **arguments):
    defaults = {"size": 4, "channels": 1, "heldout_split": "test", "num_workers": 0}
    defaults |= {"batch_size": 3, "steps_per_epoch": 20, "buffer": 7}
    return HFImagesDataModule(path, **{**defaults, **arguments})


def numbers(batch):
    return ((batch["image"][:, 0, 0, 0] + 1) * 127.5).round().long()


def stream(loader):
    return torch.cat([numbers(batch) for batch in loader])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_rows_and_streams(kind, streaming, request):
    data = module(request.getfixturevalue(kind), streaming=streaming)
    data.setup()
    assert data.class_names == ["even", "odd"]
    assert data.shape == (1, 4, 4)
    assert stream(data.reference_dataloader()).tolist() == list(range(SIZE))
    assert stream(data.heldout_dataloader()).tolist() == list(range(100, 107))
    for _ in range(2):  # as often as asked
        assert data.whole_labels("reference").tolist() == [n % 2 for n in range(SIZE)]
        assert numbers({"image": data.whole("heldout")}).tolist() == list(range(100, 107))
    seen = stream(data.train_dataloader())
    for epoch in (seen[:SIZE], seen[SIZE : 2 * SIZE]):
        assert epoch.sort().values.tolist() == list(range(SIZE))
    assert not torch.equal(seen[:SIZE], seen[SIZE : 2 * SIZE])
    for batch in data.train_dataloader():
        assert batch["image"].shape == (3, 1, 4, 4)
        assert torch.equal(batch["label"], numbers(batch) % 2)


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_a_stream_resumes_at_every_position(kind, request):
    path = request.getfixturevalue(kind)
    unbroken = stream(module(path, streaming=True, seed=1, steps_per_epoch=40).train_dataloader())
    data = module(path, streaming=True, seed=1)
    loader = data.train_dataloader()
    for position, _ in enumerate(loader, 1):
        other = data.make_train_loader()
        buffer = BytesIO()
        torch.save(loader.state_dict(), buffer)
        buffer.seek(0)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(stream(other), unbroken[3 * position : 3 * position + 60])


def test_ranks_share_a_stream(parquet, monkeypatch):
    joint = stream(module(parquet, streaming=True, batch_size=6).train_dataloader())
    for rank in range(2):
        monkeypatch.setattr(HFImagesDataModule, "ranks", (rank, 2))
        data = module(parquet, streaming=True)
        assert torch.equal(stream(data.train_dataloader()), joint[rank::2])
        assert stream(data.reference_dataloader()).tolist() == list(range(rank, SIZE, 2))


def test_a_stream_refuses_a_state_of_another(parquet):
    state = module(parquet, streaming=True).train_dataloader().state_dict()
    with pytest.raises(InputError, match=r"expected buffer 7 .* found buffer 8"):
        module(parquet, streaming=True, buffer=8).train_dataloader().load_state_dict(state)


def test_a_fraction_is_held_out_of_each_class(parquet):
    data = module(parquet, heldout_split=None, heldout=0.25)
    parts = [stream(loader) for loader in (data.reference_dataloader(), data.val_dataloader())]
    assert torch.cat(parts).sort().values.tolist() == list(range(SIZE))
    assert [int((parts[1] % 2 == k).sum()) for k in range(2)] == [3, 3]


@pytest.mark.parametrize("streaming", [False, True])
def test_augmentation_is_new_in_every_epoch_and_off_elsewhere(tmp_path, streaming):
    ramp = Image.fromarray(np.tile(np.arange(8, dtype=np.uint8) * 30, (8, 1)))
    datasets.Dataset.from_dict({"image": [ramp] * 40}).save_to_disk(tmp_path)
    data = module(
        str(tmp_path),
        streaming=streaming,
        label_column=None,
        heldout_split=None if not streaming else "train",
        flip=True,
        batch_size=20,
        heldout=0.5,
        steps_per_epoch=4,
    )
    assert data.num_classes == 0
    flips = [batch["image"][:, 0, 0, 0] > 0 for batch in data.train_dataloader()]
    assert all(0 < flip.sum() < 20 for flip in flips)
    assert not any((batch["image"][:, 0, 0, 0] > 0).any() for batch in data.val_dataloader())
    assert len({tuple(flip.tolist()) for flip in flips}) == 4


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_pictures(tmp_path, streaming):
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(3):
                Image.new("RGB", (9, 9), (k, k, k)).save(tmp_path / split / name / f"{k}.png")
    data = module(str(tmp_path), streaming=streaming, channels=3)
    assert data.class_names == ["ant", "bee"]
    assert stream(data.val_dataloader()).tolist() == [0, 1, 2, 0, 1, 2]


def test_an_image_that_is_none(tmp_path):
    column = [{"bytes": b"not a picture", "path": "x.png"}] * 4
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": column, "label": [0] * 4}, features=features)
    data.save_to_disk(tmp_path)
    broken = module(str(tmp_path), label_column=None, heldout_split=None)
    with pytest.raises(InputError, match=r"one that cannot be read \(x.png\)"):
        next(iter(broken.train_dataloader()))
    with pytest.raises(InputError, match="expected a ClassLabel column, found 'label'"):
        module(str(tmp_path), heldout_split=None).setup()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "none"}, "cannot load split 'none'"),
        ({"heldout_split": "none"}, "cannot load split 'none'"),
        ({"image_column": "picture"}, "expected a column 'picture', found image, label"),
        ({"image_column": "label"}, "expected images in 'label'"),
        ({"label_column": "class"}, "expected a column 'class', found image, label"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_wrong_names(kind, arguments, words, streaming, request):
    data = module(request.getfixturevalue(kind), streaming=streaming, **arguments)
    with pytest.raises(InputError, match=words):
        data.setup()


def test_missing_data_set(tmp_path):
    with pytest.raises(InputError, match="nowhere: cannot load split 'train'"):
        module(str(tmp_path / "nowhere")).setup()


def test_a_stream_needs_a_split_to_hold_out(parquet):
    with pytest.raises(InputError, match="heldout_split: expected"):
        module(parquet, streaming=True, heldout_split=None)


def test_the_missing_extra_is_named(parquet, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="hub-data"):
        module(parquet).setup()


def test_grey_of_more_than_8_bits_needs_its_depth():
    stream = BytesIO()
    Image.fromarray(np.full((6, 8), 4095, np.uint16)).save(stream, "png")
    example = {"image": {"bytes": stream.getvalue(), "path": None}}
    with pytest.raises(InputError, match=r"bit_depth: .* 4095: 16, or 12"):
        HFImagesDataModule("x", 4, channels=1, label_column=None).decode(example, None)
    data = HFImagesDataModule("x", [4, 6], channels=1, label_column=None, bit_depth=12)
    assert data.decode(example, None)["image"].equal(torch.ones(1, 4, 6))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("label", [-1, None])
def test_a_row_without_a_label_is_refused(tmp_path, streaming, label):
    for name in ("train", "test"):
        table = rows(6)
        odd = [*table["label"][:5], label] if name == "test" else table["label"]
        columns = {"image": list(table["image"]), "label": odd}
        table = datasets.Dataset.from_dict(columns, features=table.features)
        table.to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    data = module(str(tmp_path), streaming=streaming)
    with pytest.raises(InputError, match=f"labels from 0 on in 'label', found {label}"):
        data.setup()
        list(data.one_pass("heldout"))
