"""What users saved with 0.1.0 still loads, resumes and samples, whatever moved since."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdlight.cli import main
from kdlight.core.moved import CLASSES, MODULES, current
from kdlight.storage.files import load_checkpoint
from tests.commands.tiny import last_line

HERE = Path(__file__).parent / "files_of_0_1_0"


@pytest.mark.parametrize("name", ["progressive", "dmd2", "codec", "classifier"])
def test_a_run_goes_on_to_the_weights_it_had_then(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "--config", str(HERE / name / "config.yaml"), "--runs_dir", str(tmp_path)]
    assert main([*words, "--ckpt_path", str(HERE / name / "half.ckpt")]) == 0
    ended = load_checkpoint(last_line(capsys.readouterr().out).parent / "checkpoints" / "last.ckpt")
    for key, value in load_file(HERE / name / "end.safetensors").items():
        torch.testing.assert_close(ended["state_dict"][key], value)


@pytest.mark.parametrize("name", ["progressive", "dmd2"])
def test_a_generator_samples(name: str, tmp_path: Path) -> None:
    output = tmp_path / "samples.pt"
    options = ["--num-samples", "4", "--seed", "3", "--output", str(output)]
    assert main(["sample", "--checkpoint", str(HERE / name / "student.safetensors"), *options]) == 0
    assert main(["sample", "--checkpoint", str(HERE / name / "half.ckpt"), *options]) == 0
    found = torch.load(output, weights_only=True)
    with np.load(HERE / name / "samples.npz") as expected:
        assert found.keys() == set(expected.files)
        for key in found:
            np.testing.assert_allclose(found[key].numpy(), expected[key], rtol=1e-5, atol=1e-6)


def test_a_codec_decodes_its_tokens(tmp_path: Path) -> None:
    shutil.copytree(HERE / "codec", tmp_path / "codec")
    codec = tmp_path / "codec" / "codec.safetensors"
    words = ["decode", "--checkpoint", str(codec), str(tmp_path / "codec" / "tokens.npz")]
    assert main([*words, "--output", str(tmp_path / "decoded")]) == 0
    assert (tmp_path / "decoded" / "tokens.wav").is_file()


def test_every_line_of_the_table_leads_to_a_module_that_did_not_move_on() -> None:
    root = Path(__file__).parents[1]
    for old, new in MODULES.items():
        assert (root / new.replace(".", "/")).with_suffix(".py").is_file(), f"{old}: {new}"
        assert new not in MODULES, f"{old} moved twice"
    for old, new in CLASSES.items():
        assert current(new) == new, old
