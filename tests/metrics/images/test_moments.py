import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdlight.commands.shared.foreign import GivenSamples
from kdlight.errors import InputError
from kdlight.metrics.images.extractors import FeatureExtractor, InceptionFeatures, PixelFeatures
from kdlight.metrics.images.frechet import FrechetDistance
from kdlight.metrics.images.moments import (
    Moments,
    PublishedDistance,
    read_moments,
    write_moments,
)
from kdlight.storage.pictures import to_bytes
from tests.storage.persistence import Called


def points(count, seed, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def measured(metric, rows):
    for part in rows.split(13):
        metric.update(part, real=False)
    return metric.compute()


def test_moments_are_numpys_and_survive_the_file(tmp_path):
    rows = points(200, 0) * 3 + 100
    found = measured(Moments(PixelFeatures((6,))), rows)
    np.testing.assert_allclose(found["mu"], rows.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["sigma"], np.cov(rows.double().T.numpy()), atol=1e-10)
    write_moments(tmp_path / "x.npz", found["mu"], found["sigma"])
    with np.load(tmp_path / "x.npz") as archive:  # the public form
        assert set(archive.files) == {"mu", "sigma"}
    mean, cov = read_moments(tmp_path / "x.npz")
    assert torch.equal(mean, found["mu"])
    assert torch.equal(cov, found["sigma"])


def test_distance_to_statistics_is_that_to_the_images(tmp_path):
    real, generated = points(300, 1), points(200, 2) * 1.2 + 0.3
    own = measured(Moments(PixelFeatures((6,))), real)
    write_moments(tmp_path / "x.npz", own["mu"], own["sigma"])
    expected = FrechetDistance(PixelFeatures((6,)), floor_draws=0)
    expected.update(real, real=True)
    found = measured(PublishedDistance(PixelFeatures((6,)), tmp_path / "x.npz"), generated)
    assert found["distance"].item() == pytest.approx(
        measured(expected, generated)["distance"].item(), rel=1e-9
    )
    with pytest.raises(InputError, match="expected statistics of 5 features as of pixels, found 6"):
        PublishedDistance(PixelFeatures((5,)), tmp_path / "x.npz")


COV = np.eye(3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": np.zeros(3)}, "expected the arrays mu and sigma, found mu"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"expected mu \(F,\) and sigma \(F, F\)"),
        ({"mu": np.zeros(3, int), "sigma": COV}, "as floating-point numbers, found int64"),
        ({"mu": np.zeros(3), "sigma": COV * np.nan}, "expected finite mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.tri(3)}, "expected sigma to be a covariance"),
        ({"mu": np.zeros(3), "sigma": -COV}, "expected sigma to be a covariance"),
        ({"mu": np.array([None]), "sigma": COV}, "expected an .npz of arrays, found something"),
    ],
)
def test_odd_statistics_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_moments(tmp_path / "x.npz")


def test_edm2s_statistics_are_read_and_nothing_of_them_is_run(tmp_path):
    path = tmp_path / "img512.pkl"
    mean, cov = np.arange(3.0), np.eye(3) * 2
    other = {"mu": np.zeros(2), "sigma": np.eye(2)}
    path.write_bytes(
        pickle.dumps({"num_images": 9, "fid": {"mu": mean, "sigma": cov}, "fd_dinov2": other})
    )
    found = read_moments(path)
    np.testing.assert_array_equal(found[0], mean)
    np.testing.assert_array_equal(found[1], cov)
    path.write_bytes(pickle.dumps({"fd_dinov2": other}))
    with pytest.raises(InputError, match="expected the arrays mu and sigma, found none"):
        read_moments(path)
    marker = tmp_path / "ran"
    path.write_bytes(pickle.dumps(Called(os.system, f"touch {marker}")))
    with pytest.raises(InputError, match=r"img512\.pkl: refused: it names posix\.system"):
        read_moments(path)
    assert not marker.exists()


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.npz: expected an \.npz of arrays"):
        read_moments(tmp_path / "x.npz")


def tiny_inception() -> nn.Module:
    """A random stand-in: bytes (B, 3, H, W) to 32 features of about Inception's size."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    ).requires_grad_(False)


class TinyInception(FeatureExtractor):
    name = "inception"
    width = 32

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_inception()

    def extract(self, images):
        return self.network((to_bytes(images).float() - 128) / 128).flatten(1)


def folder_of(place, seed, low, high):
    place.mkdir()
    generator = np.random.default_rng(seed)
    for index in range(150):
        base = generator.integers(low, high, (1, 1, 3))
        noise = generator.integers(-40, 40, (16, 16, 3))
        pixels = (base + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index:04d}.png")
    return place


def our_fid(real, generated, features):
    metric = FrechetDistance(features, floor_draws=0)
    for place, is_real in ((real, True), (generated, False)):
        for part in GivenSamples(place).batches(64):
            metric.update(part.image, real=is_real)
    return metric.compute()["distance"].item()


def test_fid_of_two_folders_is_torch_fidelitys(tmp_path):
    fidelity = pytest.importorskip("torch_fidelity")
    base = pytest.importorskip("torch_fidelity.feature_extractor_base")

    class Registered(base.FeatureExtractorBase):
        def __init__(self, name, features_list, **_):
            super().__init__(name, features_list)
            self.network = tiny_inception()

        get_provided_features_list = staticmethod(lambda: ("32",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "32")
        can_be_compiled = staticmethod(lambda: False)

        def forward(self, x):
            return (self.network((x.float() - 128) / 128).flatten(1),)

    fidelity.register_feature_extractor("tiny-inception", Registered)
    real = folder_of(tmp_path / "real", 0, 0, 256)
    generated = folder_of(tmp_path / "generated", 1, 60, 200)
    theirs = fidelity.calculate_metrics(
        input1=str(generated),
        input2=str(real),
        fid=True,
        cuda=False,
        cache=False,
        feature_extractor="tiny-inception",
        verbose=False,
    )["frechet_inception_distance"]
    found = our_fid(real, generated, TinyInception())
    assert found == pytest.approx(theirs, rel=1e-3)
    assert found > 1e-3


@pytest.mark.slow
def test_fid_with_the_published_weights_is_torch_fidelitys(tmp_path):
    fidelity = pytest.importorskip("torch_fidelity")
    try:
        features = InceptionFeatures()
    except InputError as error:
        # A damaged file is a failure; weights that are not there are not.
        if "no Inception weights there" not in str(error):
            raise
        pytest.skip("the published Inception weights are not in the cache of torch hub")
    real = folder_of(tmp_path / "real", 0, 0, 256)
    generated = folder_of(tmp_path / "generated", 1, 60, 200)
    theirs = fidelity.calculate_metrics(
        input1=str(generated), input2=str(real), fid=True, cuda=False, cache=False, verbose=False
    )["frechet_inception_distance"]
    assert our_fid(real, generated, features) == pytest.approx(theirs, abs=1e-3)
