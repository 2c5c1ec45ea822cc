"""Ways to spoil a file: any file, and those whose insides are known."""

from pathlib import Path

from tests.fuzz.damage.anything import ANY, Damage
from tests.fuzz.damage.media import PICTURE, SOUND
from tests.fuzz.damage.tensors import NPZ, SAFETENSORS, TORCH
from tests.fuzz.damage.text import JSON, JSON_LINES, TEXT, YAML

OF: dict[str, list[Damage]] = {
    ".json": TEXT + JSON, ".jsonl": TEXT + JSON_LINES, ".tsv": TEXT * 3, ".csv": TEXT * 3,
    ".txt": TEXT, ".yaml": TEXT + YAML, ".ckpt": TORCH, ".pt": TORCH, ".pth": TORCH, ".th": TORCH,
    ".safetensors": SAFETENSORS, ".npz": NPZ, ".wav": SOUND, ".flac": SOUND,
    ".png": PICTURE, ".tiff": PICTURE,
}  # fmt: skip
"""Further damages by suffix."""


def damages(path: Path) -> list[Damage]:
    """All that can be done to a file."""
    return ANY + OF.get(path.suffix, [])
