import numpy as np
import pytest
import torch

from datamodules.images.nouns import Art, NounsDataModule, known_heads
from kdlight.errors import InputError
from kdlight.storage.pictures import to_float


@pytest.fixture(scope="module")
def art():
    return Art()


def test_the_art_is_whole(art):
    counts = [len(names) for names in art.classes.values()]
    assert counts == [21, 20, 20, 16, 14, 14, 11, 12]
    assert [len(part) for part in (art.heads, art.bodies, art.accessories, art.glasses)] == [
        128,
        30,
        40,
        23,
    ]
    # Opaque or not there; only the accessory "none" is empty.
    for parts in (art.heads, art.bodies, art.accessories, art.glasses):
        assert set(np.unique(parts[..., 3])) <= {0, 255}
        empty = (parts[..., 3] == 0).all(axis=(1, 2))
        assert empty.sum() == (parts is art.accessories)


def test_compositions_are_fixed_their_classes_equal_and_their_heads_right(art):
    drawn = art.compose(800, seed=2)
    assert torch.equal(drawn["image"], art.compose(800, seed=2)["image"])
    assert not torch.equal(drawn["image"], art.compose(800, seed=3)["image"])
    assert drawn["label"].bincount().tolist() == [100] * 8
    # Found again by the judge, and in the class that was asked for.
    judge = known_heads(art)
    for label in range(8):
        judge.update(to_float(drawn["image"][drawn["label"] == label]))
        shown = (judge.shown > 0).nonzero().flatten()
        assert judge.compute()["crisp"] == 1
        assert set(art.head_class[shown.numpy()]) == {label}
        judge.reset()


def test_blends_and_noise_are_not_crisp(art):
    images = to_float(art.compose(800, seed=2)["image"])
    judge = known_heads(art)
    judge.update((images[:-8] + images[8:]) / 2)  # of the same class: one pair in 16 shares a head
    assert judge.compute()["crisp"] < 0.1
    judge.reset()
    judge.update(images.mean(dim=0).expand(2, -1, -1, -1))
    assert judge.compute()["crisp"] == 0


def test_module_and_its_judge():
    data = NounsDataModule(compositions=64, batch_size=8)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, *data.shape)
    assert data.num_classes == 8
    assert [judge.names for judge in data.judges()] == [("crisp", "covered")]
    with pytest.raises(InputError, match="compositions"):
        NounsDataModule(compositions=0)
