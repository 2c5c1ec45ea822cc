"""``student: {width: 0.5}``: trained, and sampled and exported when the teacher is gone."""

import json
import shutil
from pathlib import Path

import yaml

from kdlight.storage.files import load_checkpoint
from tests.commands.tiny import TINY, Run, last_line

ASSETS = Path(__file__).parents[2] / "kdlight" / "assets"


def test_a_student_told_by_its_width_needs_no_teacher_later(kdlight: Run, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy((ASSETS / "digits_teacher").with_suffix(suffix), tmp_path)
    config = yaml.safe_load(TINY.read_text())
    settings = config["model"]["init_args"]
    settings["round_iterations"] = 1
    del config["trainer"]["callbacks"]  # nothing is measured
    settings["student"] = {"width": 0.05}
    settings["teacher"] = {
        "class_path": "kdlight.teachers.diffusion.run_teacher",
        "init_args": {"checkpoint": str(tmp_path / "digits_teacher.safetensors")},
    }
    (tmp_path / "like.yaml").write_text(yaml.safe_dump(config))
    words = ["fit", "--config", tmp_path / "like.yaml", "--runs_dir", tmp_path]
    code, _, err = kdlight(*words, "--model.init_args.student.widht", "0.1")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean width?" in err
    code, out, err = kdlight(*words)
    assert code == 0, err
    (tmp_path / "digits_teacher.safetensors").unlink()
    checkpoint = last_line(out).parent / "checkpoints" / "last.ckpt"
    for known in load_checkpoint(checkpoint)["models"]:
        network = known["spec"]["init_args"]["denoiser"]["init_args"]["network"]
        assert network["init_args"]["width"] == round(0.05 * 384)
    place = ["--checkpoint", checkpoint, "--steps", "1", "--output"]
    assert kdlight("sample", *place, tmp_path / "x.png", "--num-samples", "4").code == 0
    assert kdlight("export", *place, tmp_path / "student.safetensors").code == 0
    assert "teacher" not in json.loads((tmp_path / "student.json").read_text())["spec"]
