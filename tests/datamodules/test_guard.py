"""datamodules and modules refuse to work with a kdlight of another checkout."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["datamodules", "modules"])
def test_packages_of_two_checkouts_do_not_mix(tmp_path, name):
    (tmp_path / name).mkdir()
    shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]"
    run = subprocess.run(
        [sys.executable, "-c", f"{path}; import {name}"], capture_output=True, text=True, cwd="/"
    )
    assert run.returncode == 1
    message = run.stderr.strip().splitlines()[-1]
    assert f"InputError: {name}: imported from {tmp_path}, but kdlight from {ROOT}" in message
