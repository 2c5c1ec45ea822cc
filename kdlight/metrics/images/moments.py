"""Mean and covariance of features: the reference statistics that papers publish."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import FeatureMetric
from kdlight.metrics.images.extractors import FeatureExtractor
from kdlight.metrics.images.frechet import frechet_distance, symmetric_root
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import require_file
from kdlight.storage.persistent import read_persistent


def read_moments(path: Path) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F), float64, of published statistics.

    An ``.npz`` with ``mu`` and ``sigma`` is the form of EDM, clean-fid, pytorch-fid and, beside
    other arrays, of OpenAI's references; a ``.pkl`` whose ``fid`` holds them that of EDM2, of which
    nothing is run.

    Raises:
        InputError: There is no such file, it holds something else, or its covariance is none.
    """
    require_file(path)
    if path.suffix == ".pkl":
        names, found = _pickled(path)
    else:
        try:
            with np.load(path, allow_pickle=False) as archive:
                names = archive.files
                found = {name: archive[name] for name in ("mu", "sigma") if name in names}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            raise InputError(f"{path}: expected an .npz of arrays, found something else.") from None
    if len(found) < 2:
        raise InputError(
            f"{path}: expected the arrays mu and sigma, found {', '.join(names) or 'none'}."
        )
    mean, cov = found["mu"], found["sigma"]
    if mean.dtype.kind != "f" or cov.dtype.kind != "f" or cov.shape != mean.shape * 2:
        raise InputError(
            f"{path}: expected mu (F,) and sigma (F, F) as floating-point numbers, found "
            f"{mean.dtype} {mean.shape} and {cov.dtype} {cov.shape}."
        )
    mean, cov = mean.astype(np.float64), cov.astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise InputError(f"{path}: expected finite mu and sigma, found a NaN or an infinity.")
    if np.abs(cov - cov.T).max() > 1e-6 * np.abs(cov).max() or (np.diag(cov) < 0).any():
        raise InputError(f"{path}: expected sigma to be a covariance, found another matrix.")
    return torch.from_numpy(mean), torch.from_numpy(cov)


def _pickled(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Names of what the ``fid`` of EDM2's statistics holds, and its arrays."""
    content = read_persistent(path)
    part = content.get("fid") if isinstance(content, Mapping) else None
    part = part if isinstance(part, Mapping) else {}
    arrays = {name: getattr(part.get(name), "value", None) for name in ("mu", "sigma")}
    found = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return [str(name) for name in part], found


def write_moments(path: Path, mean: Tensor, cov: Tensor) -> None:
    """Write what :func:`read_moments` reads."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, mu=mean.double().cpu().numpy(), sigma=cov.double().cpu().numpy())


class Moments(FeatureMetric):
    """Mean and covariance of features, in the memory of one matrix.

    ``compute()`` returns ``mu`` (F,), ``sigma`` (F, F), divided by N - 1 as ``numpy.cov`` does,
    float64, and ``non_finite``. Only ``update(images, real=False)`` is of use.

    Args:
        features: Turns images into vectors.
    """

    names: tuple[str, ...] = ("mu", "sigma")
    generated_count: Tensor
    generated_sum: Tensor
    generated_outer: Tensor

    def __init__(self, features: FeatureExtractor) -> None:
        super().__init__(features)
        width = features.width
        self.add_sums(generated_count=(), generated_sum=(width,), generated_outer=(width, width))

    def accumulate(self, features: Tensor, side: str) -> None:
        values = features.double()
        self.add_to("generated_count", len(values))
        self.add_to("generated_sum", values.sum(0))
        self.add_to("generated_outer", values.T @ values)

    def enough(self) -> bool:
        return bool(self.generated_count >= 2)

    def figures(self) -> dict[str, Tensor]:
        mean = self.generated_sum / self.generated_count
        outer = self.generated_outer - self.generated_count * torch.outer(mean, mean)
        return {"mu": mean, "sigma": outer / (self.generated_count - 1)}


class PublishedDistance(Moments):
    """Frechet distance of generated features to published statistics: the FID, with Inception.

    ``compute()`` returns ``distance`` and ``non_finite``.

    Args:
        features: Turns images into vectors.
        path: The statistics, see :func:`read_moments`.

    Raises:
        InputError: The file holds none, or those of another number of features.
    """

    higher_is_better = False
    names = ("distance",)
    mean: Tensor
    cov: Tensor
    root: Tensor

    def __init__(self, features: FeatureExtractor, path: Path) -> None:
        super().__init__(features)
        mean, cov = read_moments(path)
        if len(mean) != features.width:
            raise InputError(
                f"{path}: expected statistics of {features.width} features as of "
                f"{features.name}, found {len(mean)}."
            )
        for name, value in (("mean", mean), ("cov", cov), ("root", symmetric_root(cov))):
            self.register_buffer(name, value, persistent=False)

    def figures(self) -> dict[str, Tensor]:
        own = super().figures()
        return {
            "distance": frechet_distance(own["mu"], own["sigma"], self.mean, self.cov, self.root)
        }
