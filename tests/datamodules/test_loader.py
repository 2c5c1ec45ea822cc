"""The order of the data: shared by ranks, resumable anywhere, independent of workers."""

import pytest
import torch

from datamodules.images.streaming import StreamPass
from datamodules.loader import EvaluationLoader, StreamLoader
from datamodules.order import permutation, seeded, shares
from kdlight.errors import InputError

SIZE = 23


def tensors(size=SIZE):
    index = torch.arange(size)
    return {"image": index.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 3).clone(), "label": index}


class Noisy:
    """Samples whose augmentation is a random number drawn from (index, epoch)."""

    def __len__(self):
        return SIZE

    def __getitem__(self, key):
        index, epoch = key
        noise = torch.rand((), generator=seeded(0, epoch, 2, index))
        return {"image": noise, "label": torch.tensor(index)}


def stream(loader, epochs):
    return [batch for _ in range(epochs) for batch in loader]


def equal(first, second):
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


def test_every_epoch_is_a_permutation_and_differs_from_the_next():
    loader = StreamLoader(tensors(), batch_size=5, steps_per_epoch=SIZE, seed=3)
    labels = torch.cat([batch["label"] for batch in loader]).view(5, SIZE)
    assert all(torch.equal(epoch.sort().values, torch.arange(SIZE)) for epoch in labels)
    assert len({tuple(epoch.tolist()) for epoch in labels}) == 5


def test_neighbouring_seeds_and_epochs_share_no_order():
    orders = {
        tuple(permutation(SIZE, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16


def test_image_and_label_stay_together():
    for batch in StreamLoader(tensors(), 4, 10):
        assert torch.equal(batch["image"][:, 0, 0, 0].long(), batch["label"])


@pytest.mark.parametrize("batch_size", [1, 3, 8, 23, 40])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_the_rows_of_one_process(batch_size, world_size):
    joint = StreamLoader(tensors(), batch_size * world_size, 20, seed=1)
    ranks = [StreamLoader(tensors(), batch_size, 20, 1, r, world_size) for r in range(world_size)]
    for whole, *parts in zip(joint, *ranks, strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part["label"], whole["label"][rank::world_size])


@pytest.mark.parametrize("flip", [False, True])
def test_resume_in_memory_at_every_position(flip):
    def make():
        return StreamLoader(tensors(), 6, steps_per_epoch=4, seed=2, flip=flip)

    unbroken = stream(make(), 4)
    for position in range(12):
        first = make()
        for count, _ in enumerate(batch for _ in range(4) for batch in first):
            if count == position:
                break
        second = make()
        second.load_state_dict(first.state_dict())
        assert second.state_dict()["batches"] == position + 1
        assert equal(stream(second, 1), unbroken[position + 1 : position + 5])


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_samples_are_the_same_for_any_workers_and_any_position(num_workers):
    unbroken = stream(StreamLoader(Noisy(), 6, 4, seed=2), 4)
    for position in (0, 1, 3, 4, 9):
        loader = StreamLoader(Noisy(), 6, 4, seed=2, num_workers=num_workers)
        state = {"batches": position, "seed": 2, "size": SIZE, "global_batch": 6}
        loader.load_state_dict(state)
        again = stream(loader, 2)[:5]
        assert equal(again, unbroken[position : position + 5])
        assert loader.state_dict()["batches"] == position + 8


def test_the_same_sample_is_augmented_anew_in_every_epoch():
    seen = {}
    for batch in StreamLoader(Noisy(), 1, 3 * SIZE):
        seen.setdefault(int(batch["label"]), set()).add(float(batch["image"]))
    assert all(len(noise) == 3 for noise in seen.values())


def test_workers_do_not_touch_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    stream(StreamLoader(Noisy(), 6, 2, num_workers=1), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_flips_mirror_about_half_and_are_shared_by_ranks():
    size = 400
    image = torch.tensor([-1.0, 0.0, 1.0]).expand(size, 1, 1, 3).clone()
    data = {"image": image, "label": torch.arange(size)}
    batch = next(iter(StreamLoader(data, size, 1, flip=True)))
    mirrored = batch["image"][:, 0, 0, 0] > 0
    assert 160 < mirrored.sum() < 240
    assert torch.equal(batch["image"][:, 0, 0, 0], -batch["image"][:, 0, 0, 2])
    half = next(iter(StreamLoader(data, size // 2, 1, rank=1, world_size=2, flip=True)))
    assert torch.equal(half["image"], batch["image"][1::2])
    assert torch.equal(data["image"], image)


def test_bytes_become_floats():
    data = {"image": torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)}
    (batch,) = EvaluationLoader(data, 3)
    torch.testing.assert_close(batch["image"].flatten(), torch.tensor([-1.0, -0.6, 1.0]))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (StreamLoader(tensors(), 4, 5, seed=1), "seed 0 .* seed 1"),
        (StreamLoader(tensors(22), 4, 5), "size 23 .* size 22"),
        (StreamLoader(tensors(), 5, 5), "global_batch 4 .* global_batch 5"),
    ],
)
def test_a_state_of_another_order_is_refused(other, words):
    with pytest.raises(InputError, match=words):
        other.load_state_dict(StreamLoader(tensors(), 4, 5).state_dict())
    assert other.batches == 0


def test_ranks_may_change_on_resume_when_the_global_batch_does_not():
    one = StreamLoader(tensors(), 8, 3)
    stream(one, 1)
    two = StreamLoader(tensors(), 4, 3, rank=1, world_size=2)
    two.load_state_dict(one.state_dict())
    assert torch.equal(next(iter(two))["label"], next(iter(one))["label"][1::2])


@pytest.mark.parametrize("value", [{"batch_size": 0}, {"steps_per_epoch": 0}, {"seed": -1}])
def test_bad_numbers_name_themselves(value):
    arguments = {"batch_size": 4, "steps_per_epoch": 3, **value}
    with pytest.raises(InputError, match=f"{next(iter(value))}: expected at least"):
        StreamLoader(tensors(), **arguments)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 24])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_covers_everything_once(size, world_size):
    parts = [shares(size, 4, rank, world_size) for rank in range(world_size)]
    assert all(len(share) <= 4 for part in parts for share in part)
    if size >= 2 * world_size:
        assert len({len(part) for part in parts}) == 1
    together = torch.cat([share for part in parts for share in part])
    assert torch.equal(together.sort().values, torch.arange(size))
    assert torch.equal(torch.cat(shares(size, 4, 0, 1)), torch.arange(size))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_get_equally_many_evaluation_batches(batch_size, world_size):
    def decode(example, generator):
        return {"label": torch.tensor(example)}

    for size in range(world_size, 30):
        parts = [shares(size, batch_size, rank, world_size) for rank in range(world_size)]
        assert len({len(part) for part in parts}) == 1
        for rank, part in enumerate(parts):
            passed = StreamPass(list(range(size)), decode, batch_size, rank, world_size)
            seen = [batch["label"] for batch in passed]
            assert torch.equal(torch.cat(seen), torch.cat(part))
            assert max(len(share) for share in [*seen, *part]) <= batch_size + 1
            # The joint batches of a stream are full but for the last.
            assert len(seen) == max(1, -(-(size - world_size + 1) // (batch_size * world_size)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_of_samples_is_in_order(num_workers):
    loader = EvaluationLoader(Noisy(), 5, num_workers=num_workers)
    assert len(loader) == 5
    assert torch.equal(torch.cat([batch["label"] for batch in loader]), torch.arange(SIZE))
