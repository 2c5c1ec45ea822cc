"""The position in the data survives a real Lightning run that stops and is resumed."""

from functools import partial

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from datamodules.images.digits import DigitsDataModule
from datamodules.images.mixture import GaussianMixtureDataModule, ring
from datamodules.loader import take
from kdlight.callbacks.checkpoint import AtomicCheckpointIO
from kdlight.commands.shared.resuming import accept_another_order
from kdlight.errors import InputError

STEPS = 4


class Recorder(lightning.LightningModule):
    """Trains one number and remembers which samples it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch["image"].flatten(1).sum(1))
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, _):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Writes a checkpoint behind batch number ``step`` and stops there."""

    def __init__(self, step, path):
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer, module, *_):
        if len(module.seen) == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(path, callbacks=(), resume=None, data=None, **limits):
    module = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        callbacks=list(callbacks),
        default_root_dir=path,
        **{"num_sanity_val_steps": 0, **limits},
    )
    trainer.fit(module, data or DigitsDataModule(500, STEPS, seed=5), ckpt_path=resume)
    return module, trainer


def assert_same(seen, expected):
    assert len(seen) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_steps": 11}])
def test_stopped_behind_any_batch(tmp_path, limit):
    whole, _ = fit(tmp_path, **limit)
    for step in (1, 3, 4, 5, 8, 10):
        path = tmp_path / f"{step}.ckpt"
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            fit(tmp_path, [SaveAt(step, path)], **limit)
        resumed, trainer = fit(tmp_path, resume=path, **limit)
        assert_same(resumed.seen, whole.seen[step:])
        assert torch.equal(resumed.weight, whole.weight)
        assert trainer.global_step == len(whole.seen)


@pytest.mark.parametrize(
    "when",
    [
        {"save_on_train_epoch_end": True},
        {"save_on_train_epoch_end": False},
        {"every_n_train_steps": 1},
        {"every_n_train_steps": 4},
        {"every_n_train_steps": 6},
    ],
    ids=str,
)
def test_a_run_that_ended_goes_on(tmp_path, when):
    whole, _ = fit(tmp_path, max_epochs=4)
    saver = ModelCheckpoint(tmp_path / "ckpt", save_top_k=-1, save_last=True, **when)
    fit(tmp_path, [saver], max_epochs=2)
    paths = sorted((tmp_path / "ckpt").glob("*.ckpt"))
    assert paths
    for path in paths:
        done = torch.load(path, weights_only=True)["global_step"]
        resumed, _ = fit(tmp_path, resume=path, max_epochs=4)
        assert_same(resumed.seen, whole.seen[done:])


def test_epochs_that_lightning_cuts_short_follow_each_other(tmp_path):
    whole, _ = fit(tmp_path, max_epochs=3)
    cut, _ = fit(tmp_path, max_epochs=4, limit_train_batches=3)
    assert_same(cut.seen, whole.seen)
    path = tmp_path / "cut.ckpt"
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit(tmp_path, [SaveAt(6, path)], max_epochs=4, limit_train_batches=3)
    resumed, _ = fit(tmp_path, resume=path, max_epochs=4, limit_train_batches=3)
    assert_same(resumed.seen, whole.seen[6:])


def test_one_data_module_may_serve_two_runs(tmp_path):
    data = DigitsDataModule(500, STEPS)
    first, _ = fit(tmp_path, data=data, max_epochs=1)
    second, _ = fit(tmp_path, data=data, max_epochs=1)
    assert_same(first.seen, second.seen)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_checkpoint_of_another_order_is_refused(tmp_path, epochs):
    _, trainer = fit(tmp_path, max_epochs=epochs)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    for data in (DigitsDataModule(500, STEPS, seed=6), DigitsDataModule(400, STEPS, seed=5)):
        with pytest.raises(InputError, match="as in the checkpoint, found"):
            fit(tmp_path, resume=tmp_path / "a.ckpt", data=data, max_epochs=3)


@pytest.mark.parametrize("step", [3, 4], ids=["inside an epoch", "behind one"])
def test_another_order_is_accepted_where_it_is_asked_for(tmp_path, step):
    path = tmp_path / "a.ckpt"
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit(tmp_path, [SaveAt(step, path)], max_epochs=3)
    data = DigitsDataModule(250, STEPS, seed=6)
    accept = AtomicCheckpointIO(partial(accept_another_order, data="DigitsDataModule"))
    resumed, _ = fit(tmp_path, resume=path, data=data, max_epochs=3, plugins=[accept])
    loader = data._train_loader
    assert loader.changed == {"seed": [5, 6], "global_batch": [500, 250]}
    assert len(resumed.seen) == 3 * STEPS - step, "the run is as long as before"
    # Behind as many samples as the run had seen: twice as many batches of half the size.
    rows = torch.cat([share for _, share in loader.order.rows(2 * step)])
    images = take(data.splits.training, rows)["image"]
    assert torch.equal(resumed.seen[0], images.flatten(1).sum(1))


def test_evaluation_loaders_in_a_trainer(tmp_path):
    data = GaussianMixtureDataModule(ring(), num_samples=100, num_heldout=50, batch_size=16)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.validate(Recorder(), data, verbose=False)
    assert trainer.num_val_batches == [4]
