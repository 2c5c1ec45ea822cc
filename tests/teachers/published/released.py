"""Small files in place of those that the published recipes name."""

from pathlib import Path

from kdlight.networks.images.edm.dhariwal import DhariwalUNet
from tests.networks.edm.recipe import filled
from tests.teachers.published.files import write_network
from tests.teachers.published.test_edm2_files import edm2_file


def released(path: str, runs: Path) -> Path:
    """A small file as that which a configuration names, of three blocks and two resolutions."""
    made = runs / Path(path).name
    if not made.is_file() and "edm2" in path:
        edm2_file(made, num_classes=2, channels=4 if "img512" in path else 3)
    elif not made.is_file():
        network = DhariwalUNet(
            16, 3, 2, model_channels=32, channel_mult=(1, 2), num_blocks=3, attention=()
        )
        write_network(made, filled(network), {"num_blocks": 3, "attn_resolutions": []})
    return made
