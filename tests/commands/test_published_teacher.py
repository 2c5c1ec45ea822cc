"""From a released file to samples of its student: convert, distil, resume, export, sample."""

from pathlib import Path

import numpy as np
import pytest
import torch

import kdlight as package
from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from kdlight.networks.images.edm.song import SongUNet
from tests.commands.tiny import Run, assert_same_weights, last_line, refused
from tests.networks.edm.recipe import filled
from tests.teachers.published.files import write_network
from tests.teachers.published.test_edm2_files import edm2_file

SMALL = {"channel_mult": (1, 1), "num_blocks": 1, "attention": ()}
CONFIG = """
name: released
seed_everything: 0
model:
  class_path: modules.diffusion.sid.SiD
  init_args:
    teacher:
      class_path: kdlight.teachers.diffusion.run_teacher
      init_args: {{checkpoint: {teacher}}}
    optimizer: {{lr: 0.001}}
    fake_optimizer: {{lr: 0.001}}
    iterations: 2
    checkpointing: true
data:
  class_path: datamodules.images.noise.NoiseDataModule
  init_args: {{shape: {shape}, num_classes: 10, batch_size: 2, steps_per_epoch: 2}}
trainer: {{accelerator: cpu, log_every_n_steps: 1}}
"""


def song(path: Path) -> None:
    network = filled(SongUNet(8, 3, 10, 9, model_channels=16, **SMALL))
    changes = {"model_channels": 16, "channel_mult": [1, 1], "attn_resolutions": []}
    write_network(path, network, changes)


def adm(path: Path) -> None:
    network = filled(DhariwalUNet(8, 3, 10, model_channels=64, **SMALL))
    changes = {"model_channels": 64, "channel_mult": [1, 1], "attn_resolutions": []}
    write_network(path, network, changes)


FILES = {
    "SongUNet": ("edm", song, [3, 8, 8]),
    "DhariwalUNet": ("edm", adm, [3, 8, 8]),
    "EDM2UNet": ("edm2", edm2_file, [4, 16, 16]),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("SongUNet", id="song"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("DhariwalUNet", "EDM2UNet")),
    ],
)
def test_from_the_file_to_the_samples(kind: str, kdlight: Run, tmp_path: Path) -> None:
    verb, write, shape = FILES[kind]
    file, teacher = tmp_path / "released.pkl", tmp_path / "teacher.safetensors"
    write(file)
    assert kdlight("convert", verb, file, teacher).code == 0
    (tmp_path / "run.yaml").write_text(CONFIG.format(teacher=teacher, shape=shape))
    words = ["fit", "--config", tmp_path / "run.yaml", "--runs_dir", tmp_path / "runs"]

    def fitted(*more: object) -> Path:
        code, out, err = kdlight(*words, *more)
        assert code == 0, err
        return last_line(out).parent / "checkpoints" / "last.ckpt"

    whole, half = fitted(), fitted("--model.init_args.iterations", "1")
    assert_same_weights(whole, fitted("--ckpt_path", half))

    student, samples = tmp_path / "student.safetensors", tmp_path / "samples.npz"
    assert kdlight("export", "--checkpoint", whole, "--output", student).code == 0
    pipeline = ["export", "--checkpoint", student, "--output", tmp_path / "pipeline"]
    sentence = f"a {kind} cannot become a diffusers pipeline, which needs a UNet2D"
    refused(kdlight, pipeline, sentence, where=tmp_path)
    if shape[0] == 3:
        drawn = ["--num-samples", "2", "--output", samples]
        code, _, err = kdlight("sample", "--checkpoint", student, *drawn)
        assert code == 0, err
        assert np.load(samples)["arr_0"].shape == (2, 8, 8, 3)
    first, second = (package.load(path).sample(2, label=7).images for path in (student, whole))
    assert first.shape == (2, *shape)
    assert torch.equal(first, second)
