"""Latent pipelines, each written and read once for all tests."""

import pytest

from kdlight.teachers.latent import latent_teacher
from tests.modules.diffusion.pipelines import SIDES, write_family


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    made = {}

    def get(family):
        if family not in made:
            made[family] = write_family(family, root / family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def teachers(folders):
    made = {}

    def get(family):
        if family not in made:
            prompts = None if family == "dit" else ["a cat", "dogs"]
            made[family] = latent_teacher(
                folders(family), prompts, guidance_scale=2.0, size=SIDES.get(family)
            )
        return made[family]

    return get
