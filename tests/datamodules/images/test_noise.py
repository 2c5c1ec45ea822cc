"""Training without data: noise of (seed, batch), and a reference that training never touches."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from datamodules.images import noise
from datamodules.images.base import ImageDataModule
from datamodules.images.digits import DigitsDataModule
from datamodules.images.mixture import GaussianMixtureDataModule, ring
from datamodules.images.noise import NoiseDataModule, NoiseLoader
from kdlight.callbacks.images.generation import GenerationReport
from kdlight.errors import InputError
from modules.diffusion.sid import SiD
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, differing, fit, state


def stream(loader, epochs):
    return [batch for _ in range(epochs) for batch in loader]


def equal(first, second):
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


def make(seed=3, batch_size=6, rank=0, world_size=1, num_classes=4):
    return NoiseLoader((1, 2, 2), num_classes, batch_size, 5, seed, rank, world_size)


def test_a_batch_is_standard_normal_noise_with_labels_of_all_classes():
    batches = stream(make(batch_size=500), 4)
    noise = torch.cat([batch["noise"] for batch in batches])
    label = torch.cat([batch["label"] for batch in batches])
    assert (noise.shape, noise.dtype) == ((10_000, 1, 2, 2), torch.float32)
    assert (label.shape, label.dtype) == ((10_000,), torch.int64)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.var()) == pytest.approx(1, abs=0.03)
    assert (label.bincount(minlength=4) - 2500).abs().max() < 200
    assert len(noise.flatten(1).unique(dim=0)) == len(noise), "never the same twice"
    assert "label" not in next(iter(make(num_classes=0)))


def test_batches_depend_on_seed_and_number_alone():
    assert equal(stream(make(), 2), stream(make(), 2))
    other = stream(make(seed=4), 2)
    assert not any(torch.equal(a["noise"], b["noise"]) for a in stream(make(), 2) for b in other)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_draw_the_rows_of_one_process(world_size):
    joint = stream(make(batch_size=4 * world_size), 2)
    for rank in range(world_size):
        mine = stream(make(batch_size=4, rank=rank, world_size=world_size), 2)
        rows = [{name: part[rank::world_size] for name, part in batch.items()} for batch in joint]
        assert equal(mine, rows)


def test_a_rank_draws_its_own_rows_alone(monkeypatch):
    drawn = []
    monkeypatch.setattr(noise, "mix", lambda *key: drawn.append(key[2]) or 1)
    next(iter(make(batch_size=3, rank=1, world_size=4, num_classes=0)))
    assert drawn == [1, 5, 9]


def test_resume_at_every_position():
    unbroken = stream(make(), 4)
    for position in range(1, 15):
        first, second = make(), make()
        for count, _ in enumerate((batch for _ in range(3) for batch in first), 1):
            if count == position:
                break
        second.load_state_dict(first.state_dict())
        assert equal(stream(second, 1), unbroken[position : position + 5])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (make(seed=1), "seed 3 .* seed 1"),
        (make(batch_size=5), "global_batch 6 .* global_batch 5"),
        (make(num_classes=2), "num_classes 4 .* num_classes 2"),
    ],
)
def test_a_state_of_other_noise_is_refused(other, words):
    with pytest.raises(InputError, match=words):
        other.load_state_dict(make().state_dict())
    assert other.batches == 0


class Untouchable(ImageDataModule):
    """Data whose files are not there; a shape and classes it has."""

    shape, class_names = (1, 4, 4), ["one", "two"]

    def __init__(self):
        super().__init__(4, 4, 0)

    def prepare_data(self):
        raise AssertionError("prepared")

    def setup(self, stage=None):
        raise AssertionError("set up")

    def read(self):
        raise AssertionError("read")


def method(**kwargs) -> SiD:
    module = CASES["sid"].make(**kwargs)
    assert isinstance(module, SiD)
    return module


def test_training_never_touches_the_reference():
    data = NoiseDataModule(Untouchable(), batch_size=12, steps_per_epoch=7)
    module = fit(method(), data, limit_val_batches=0)
    assert module.iteration == 20
    with pytest.raises(AssertionError, match="prepared"):
        data.whole("reference")
    # With validation the held-out part is asked for, and only then.
    with pytest.raises(AssertionError, match="prepared"):
        fit(method(), NoiseDataModule(Untouchable(), batch_size=12))


@pytest.mark.gpu
def test_an_accelerator_draws_its_own_batches():
    loaders = [NoiseLoader((1, 2, 2), 4, 6, 5, 3, rank, 2, "cuda") for rank in range(2)]
    joint = next(iter(NoiseLoader((1, 2, 2), 4, 12, 5, 3, device="cuda")))
    for rank, loader in enumerate(loaders):
        batch = next(iter(loader))
        for name, rows in joint.items():
            assert rows.device.type == "cuda"
            assert torch.equal(batch[name], rows[rank::2])


def test_the_loader_draws_where_the_run_is():
    data = NoiseDataModule(shape=[1, 4, 4], num_classes=2, batch_size=12)
    data.trainer = SimpleNamespace(
        global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device("meta"))
    )
    assert data.make_train_loader().device == torch.device("meta")


def test_a_run_resumes_to_the_bit(tmp_path):
    def data():
        return NoiseDataModule(shape=[1, 4, 4], num_classes=2, batch_size=12, steps_per_epoch=7)

    whole = fit(method(), data(), [SaveAt(tmp_path, (4, 7, 15))])
    for stop in (4, 7, 15):
        resumed = fit(method(), data(), ckpt_path=tmp_path / f"{stop}.ckpt")
        assert not list(differing(state(whole), state(resumed))), f"stopped after {stop}"
    other = NoiseDataModule(shape=[1, 4, 4], num_classes=2, batch_size=12, seed=1)
    with pytest.raises(InputError, match="data order: expected seed 0 as in the checkpoint"):
        fit(method(), other, ckpt_path=tmp_path / "4.ckpt")


def test_evaluation_sees_the_reference():
    digits = DigitsDataModule()
    data = NoiseDataModule(DigitsDataModule())
    assert (data.shape, data.num_classes) == ((1, 8, 8), 10)
    assert data.class_names == digits.class_names
    assert data.judges() == []
    for part in ("reference", "heldout"):
        assert torch.equal(data.whole(part), digits.whole(part))
        assert torch.equal(data.whole_labels(part), digits.whole_labels(part))
    for kind in ("val", "test", "predict", "reference", "heldout"):
        ours, theirs = (list(getattr(each, f"{kind}_dataloader")()) for each in (data, digits))
        assert equal(ours, theirs)
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"noise", "label"}
    points = NoiseDataModule(GaussianMixtureDataModule(ring(), 20, 20))
    assert [judge.names for judge in points.judges()] == [("modes", "strays")]
    assert (points.shape, points.num_classes) == ((2,), 0)


def test_without_a_reference_there_is_nothing_to_compare_with():
    data = NoiseDataModule(shape=[1, 4, 4], num_classes=2, batch_size=12)
    assert list(data.val_dataloader()) == []
    for ask in (data.whole, data.whole_labels, data.one_pass):
        with pytest.raises(InputError, match="reference: expected data to compare samples with"):
            ask("reference")
    started = []

    class Watch(L.Callback):
        def on_train_start(self, trainer, pl_module):
            started.append(True)

    with pytest.raises(InputError, match="reference: expected the data that GenerationReport"):
        fit(method(), data, [GenerationReport(), Watch()])
    assert not started


def test_bad_settings_are_named():
    with pytest.raises(InputError, match="shape: expected the shape of one sample, .* neither"):
        NoiseDataModule()
    with pytest.raises(InputError, match="shape: expected at least 1, found 0"):
        NoiseDataModule(shape=[0])
    with pytest.raises(InputError, match="num_classes: expected at least 0, found -1"):
        NoiseDataModule(shape=[2], num_classes=-1)
    with pytest.raises(InputError, match="batch_size: expected a whole number above 0, found 0"):
        NoiseDataModule(shape=[2], batch_size=0).train_dataloader()
    data = NoiseDataModule(DigitsDataModule(), shape=[1, 4, 4])
    with pytest.raises(InputError, match=r"reference: expected samples of shape \(1, 4, 4\), fou"):
        data.whole("heldout")
