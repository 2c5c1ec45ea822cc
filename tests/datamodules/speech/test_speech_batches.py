"""Batches of speech: crops on the grid of frames, padding, ranks, and a run that is resumed."""

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from datamodules.speech.base import Crops, SpeechDataModule, collate_padded
from datamodules.speech.utterances import Utterance, split_speakers
from kdlight.errors import InputError

RATE, HOP, STEPS = 1000, 10, 4
LENGTHS = (95, 1, 203, 77, 50, 51, 340, 120, 64, 9, 150)


def utterance(index, samples):
    """Samples that count up, so that a crop tells where it comes from."""
    audio = torch.arange(samples)[None] + 1000.0 * (index + 1)
    phones = torch.arange(-(-samples // 5)) % 7 + 1
    return Utterance(
        f"u{index}", audio, samples, RATE, f"Text {index}.", f"s{index % 4}", phones, 5
    )


class Counting(SpeechDataModule):
    def __init__(self, batch_size=4, heldout=1, heldout_seconds=None, seed=0, num_workers=0):
        super().__init__(
            batch_size, 0.057, STEPS, seed, num_workers, RATE, HOP, heldout, heldout_seconds
        )

    def read(self):
        made = [utterance(index, samples) for index, samples in enumerate(LENGTHS)]
        return split_speakers(made, self.heldout, "counting")


def test_a_training_batch_has_the_documented_form():
    data = Counting(batch_size=8, heldout=0)
    assert data.segment_samples == 50
    batch = next(iter(data.train_dataloader()))
    assert batch["audio"].shape == (8, 1, 50)
    assert batch["audio"].dtype == torch.float32
    assert batch["phones"].shape == (8, 5)
    for name in ("lengths", "start", "total", "phones"):
        assert batch[name].dtype == torch.int64
    for row in range(8):
        index = int(batch["path"][row][1:])
        assert batch["transcript"][row] == f"Text {index}."
        assert batch["speaker"][row] == f"s{index % 4}"
        assert batch["total"][row] == LENGTHS[index]
        start, length = int(batch["start"][row]), int(batch["lengths"][row])
        assert length == min(50, LENGTHS[index] - start)
        expected = torch.zeros(50)
        expected[:length] = torch.arange(start, start + length) + 1000.0 * (index + 1)
        assert torch.equal(batch["audio"][row, 0], expected)
        middles = torch.arange(5) * HOP + HOP // 2 + start
        phones = torch.where(middles < LENGTHS[index], middles // 5 % 7 + 1, 0)
        assert torch.equal(batch["phones"][row], phones)


def test_crops_start_on_frames_and_everywhere_a_crop_fits():
    crops = Crops([utterance(0, 203), utterance(1, 30), utterance(2, 50)], 50, HOP, 3)
    starts = {crops.start(0, epoch) for epoch in range(300)}
    assert starts == set(range(0, 160, HOP))  # the last one ends at sample 200 of 203
    assert {crops.start(1, epoch) for epoch in range(20)} == {0}
    assert {crops.start(2, epoch) for epoch in range(20)} == {0}


def test_a_crop_is_a_function_of_seed_epoch_and_index():
    utterances = [utterance(index, 2000) for index in range(6)]

    def starts(seed):
        crops = Crops(utterances, 50, HOP, seed)
        return [crops.start(index, epoch) for epoch in range(4) for index in range(6)]

    torch.manual_seed(1)
    first = starts(0)
    torch.manual_seed(2)
    assert starts(0) == first
    assert starts(1) != first
    assert len(set(first)) > 18, "another one for every utterance and epoch"
    again = Crops(utterances, 50, HOP, 0)
    assert again[5, 3]["start"] == first[23], "whatever was read before"


def test_held_out_utterances_are_whole_in_order_and_padded():
    data = Counting(batch_size=2, heldout=["s1", "s3"])
    batches = list(data.val_dataloader())
    names = [name for batch in batches for name in batch["path"]]
    assert names == ["u1", "u3", "u5", "u7", "u9"]
    for batch in batches:
        longest = max(int(length) for length in batch["total"])
        assert batch["audio"].shape[-1] == -(-longest // HOP) * HOP
        assert torch.equal(batch["lengths"], batch["total"])
        assert not batch["start"].any()
        assert batch["phones"].shape[1] == batch["audio"].shape[-1] // HOP
        for row, length in enumerate(batch["lengths"].tolist()):
            assert not batch["audio"][row, :, length:].any()
            assert batch["audio"][row, 0, length - 1] % 1000 == length - 1
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        assert [name for batch in loader for name in batch["path"]] == names


def test_long_held_out_utterances_are_cut():
    data = Counting(batch_size=2, heldout=["s2"], heldout_seconds=0.1)
    (batch, *_) = data.val_dataloader()
    assert batch["path"] == ["u2", "u6"]
    assert batch["audio"].shape == (2, 1, 100)
    assert batch["lengths"].tolist() == [100, 100]
    assert batch["total"].tolist() == [203, 340]
    assert list(Counting(heldout=0).val_dataloader()) == []


def test_samples_of_unequal_lengths_are_padded_with_zeros():
    batch = collate_padded(
        [
            {"audio": torch.ones(1, 3), "lengths": torch.tensor(3), "speaker": "a"},
            {"audio": torch.ones(1, 1), "lengths": torch.tensor(1), "speaker": "b"},
        ]
    )
    assert batch["audio"].tolist() == [[[1, 1, 1]], [[1, 0, 0]]]
    assert batch["lengths"].tolist() == [3, 1]
    assert batch["speaker"] == ["a", "b"]


def test_phones_that_are_not_known_are_refused():
    one = Utterance("u", torch.zeros(1, 9), 9, RATE)
    with pytest.raises(InputError, match="u: expected an utterance with known phones, found none"):
        one.phone_labels(3)


def test_labels_of_whole_utterances_cover_every_frame():
    one = utterance(0, 23)
    assert one.phone_labels(10).tolist() == [2, 4, 0], "its last frame's middle is behind the end"
    assert one.phone_labels(10, 10, 4).tolist() == [4, 0, 0, 0]


def rows(batches):
    return [
        (path, int(start), int(length))
        for batch in batches
        for path, start, length in zip(batch["path"], batch["start"], batch["lengths"], strict=True)
    ]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_get_disjoint_shares_that_make_the_joint_batch(monkeypatch, world_size):
    joint = [rows([batch]) for batch in Counting(4 * world_size).train_dataloader()]
    held = rows(Counting(heldout=["s0", "s1"]).val_dataloader())
    for rank in range(world_size):
        monkeypatch.setattr(Counting, "ranks", (rank, world_size))
        mine = [rows([batch]) for batch in Counting(4).train_dataloader()]
        assert mine == [whole[rank::world_size] for whole in joint]
        assert rows(Counting(heldout=["s0", "s1"]).val_dataloader()) == held[rank::world_size]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_at_every_position_with_any_workers(num_workers):
    whole = Counting()
    loader = whole.train_dataloader()
    unbroken = [row for _ in range(3) for row in rows(loader)]
    positions = range(1, 2 * STEPS - 1) if num_workers == 0 else (3,)
    for position in positions:
        first = Counting()
        loader = first.train_dataloader()
        for count, _ in enumerate(batch for _ in range(2) for batch in loader):
            if count + 1 == position:
                break
        second = Counting(num_workers=num_workers)
        second.load_state_dict(first.state_dict())
        found = rows(second.train_dataloader())
        assert found == unbroken[4 * position : 4 * (position + STEPS)]
        assert second.state_dict()["batches"] == position + STEPS


class Recorder(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, _):
        self.seen += rows([batch])
        return self.weight * batch["audio"].mean()

    def validation_step(self, batch, _):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StopAt(Callback):
    def __init__(self, step, path):
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer, module, *_):
        if len(module.seen) == 4 * self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(path, callbacks=(), resume=None, data=None):
    module = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
        default_root_dir=path,
        max_epochs=3,
    )
    trainer.fit(module, data or Counting(), ckpt_path=resume)
    return module.seen


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 2])
def test_a_run_that_is_resumed_hears_what_is_left(tmp_path, step):
    unbroken = fit(tmp_path)
    assert len(unbroken) == 4 * 3 * STEPS
    path = tmp_path / "stopped.ckpt"
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit(tmp_path, [StopAt(step, path)])
    assert fit(tmp_path, resume=path) == unbroken[4 * step :]
    with pytest.raises(InputError, match="expected seed 0 as in the checkpoint, found seed 1"):
        fit(tmp_path, resume=path, data=Counting(seed=1))
