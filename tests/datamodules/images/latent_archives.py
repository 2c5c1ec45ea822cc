"""Small files in the layout of EDM2's latents."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np


def latent_zip(path: Path, count: int = 24) -> Path:
    """Posteriors of random latents of 4 x 16 x 16, of two classes in turn."""
    source = np.random.default_rng(0)
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            name = f"00000/img-mean-std-{index:08d}.npy"
            mean, std = source.normal(0, 4, (4, 16, 16)), source.uniform(0.5, 1, (4, 16, 16))
            stream = BytesIO()
            np.save(stream, np.concatenate([mean, std]).astype(np.float32))
            archive.writestr(name, stream.getvalue())
            labels.append([name, index % 2])
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path
