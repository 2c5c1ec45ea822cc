"""A teacher's samples as training data: made once, found again, in the order of all data."""

import lightning as L
import pytest
import torch

import datamodules.images.pairs
from datamodules.images.digits import DigitsDataModule
from datamodules.images.pairs import PairsDataModule
from kdlight.errors import InputError
from kdlight.teachers.diffusion import bundled_teacher
from kdlight.teachers.pairs import make_pairs
from tests.exactness.cases import CASES
from tests.exactness.diffusion_cases import tiny_teacher
from tests.exactness.harness import SaveAt, differing, fit, state


def make(folder, **settings):
    arguments = {"count": 40, "steps": 2, "batch_size": 12, "steps_per_epoch": 7} | settings
    return PairsDataModule(tiny_teacher(), folder=str(folder), **arguments)


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*")}


def test_missing_pairs_are_made_once_and_found_again(tmp_path, monkeypatch):
    data = make(tmp_path / "new")
    assert not (tmp_path / "new").exists(), "nothing is made before it is asked for"
    data.prepare_data()
    before = files(tmp_path / "new")
    assert list(before) == [data.file.name]

    def fail(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(datamodules.images.pairs, "make_pairs", fail)
    again = make(tmp_path / "new", seed=5, batch_size=8)  # neither changes the pairs
    again.prepare_data()
    again.setup()
    assert all(torch.equal(tensor, data.pairs[name]) for name, tensor in again.pairs.items())
    assert files(tmp_path / "new") == before
    for other in ({"count": 30}, {"steps": 3}, {"pairs_seed": 1}):
        with pytest.raises(AssertionError, match="made again"):
            make(tmp_path / "new", **other).prepare_data()


def test_batches_hold_whole_pairs_in_the_order_of_the_seed(tmp_path):
    data, other = make(tmp_path), make(tmp_path, seed=1)
    batch = next(iter(data.train_dataloader()))
    assert {name: tuple(part.shape) for name, part in batch.items()} == {
        "noise": (12, 1, 4, 4),
        "image": (12, 1, 4, 4),
        "label": (12,),
    }
    expected = tiny_teacher()(batch["noise"], {"label": batch["label"]}, 2)
    torch.testing.assert_close(batch["image"], expected, rtol=0, atol=1e-5)
    assert not torch.equal(next(iter(other.train_dataloader()))["noise"], batch["noise"])
    loader = make(tmp_path, batch_size=8, steps_per_epoch=5).train_dataloader()
    seen = torch.cat([each["noise"] for each in loader])
    assert len(seen.flatten(1).unique(dim=0)) == 40, "each pair once"


def test_a_file_of_the_command_line_is_read_and_checked(tmp_path):
    file = tmp_path / "own.safetensors"
    with pytest.raises(InputError, match="own.safetensors: no such file; `python -m kdlight pair"):
        make(tmp_path, file=str(file)).prepare_data()
    make_pairs(tiny_teacher(), 40, file, 2)
    data = make(tmp_path, file=str(file))
    data.prepare_data()
    data.setup()
    assert len(data.pairs["noise"]) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["own.safetensors"]
    with pytest.raises(InputError, match="own.safetensors: expected pairs of seed 3, found 0"):
        make(tmp_path, file=str(file), pairs_seed=3).setup()


def test_a_run_resumes_to_the_bit(tmp_path):
    make_case = CASES["trajectory_regression"].make
    whole = fit(make_case(), make(tmp_path), [SaveAt(tmp_path, (4, 7, 15))])
    for stop in (4, 7, 15):
        resumed = fit(make_case(), make(tmp_path), ckpt_path=tmp_path / f"{stop}.ckpt")
        assert not list(differing(state(whole), state(resumed))), f"stopped after {stop}"
    with pytest.raises(InputError, match="data order: expected size 40 as in the checkpoint"):
        fit(make_case(), make(tmp_path, count=30), ckpt_path=tmp_path / "4.ckpt")


def test_other_verbs_than_fit_make_no_pairs(tmp_path):
    teacher = bundled_teacher("digits_teacher")
    data = PairsDataModule(teacher, 40, folder=str(tmp_path), reference=DigitsDataModule())

    class Measured(L.LightningModule):
        seen = 0

        def validation_step(self, batch, _):
            self.seen += len(batch["image"])

    module = Measured()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.validate(module, data, verbose=False)
    assert module.seen == 360
    assert not list(tmp_path.iterdir())


def test_evaluation_sees_the_reference(tmp_path):
    digits = DigitsDataModule()
    data = PairsDataModule(
        bundled_teacher("digits_teacher"), 40, folder=str(tmp_path), reference=DigitsDataModule()
    )
    assert (data.shape, data.num_classes) == ((1, 8, 8), 10)
    assert torch.equal(data.whole("reference"), digits.whole("reference"))
    alone = make(tmp_path)
    assert (alone.shape, alone.num_classes) == ((1, 4, 4), 2)
    with pytest.raises(InputError, match="reference: expected data to compare samples with"):
        alone.whole("reference")
    assert not list(tmp_path.iterdir()), "no pairs for evaluation"


def test_bad_settings_are_named_before_anything_is_made(tmp_path):
    for settings, words in (
        ({"count": 0}, "count: expected at least 1, found 0"),
        ({"steps": 0}, "steps: expected at least 1, found 0"),
        ({"pairs_seed": -1}, "seed: expected at least 0, found -1"),
        ({"making_batch_size": 0}, "making_batch_size: expected a whole number above 0, found 0"),
    ):
        with pytest.raises(InputError, match=words):
            make(tmp_path, **settings)
