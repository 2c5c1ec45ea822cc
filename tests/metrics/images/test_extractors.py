import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdlight.errors import InputError
from kdlight.metrics.images import extractors
from kdlight.metrics.images.extractors import (
    ClassifierFeatures,
    InceptionFeatures,
    PixelFeatures,
    TimmFeatures,
    TransformersFeatures,
    bundled_classifier,
)
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.storage.files import save_model


@pytest.mark.parametrize("shape", [(1, 8, 8), (2,)])
def test_pixels_are_flattened_and_their_shape_checked(shape):
    samples = torch.randn(3, *shape)
    features = PixelFeatures(shape)
    assert torch.equal(features(samples), samples.reshape(3, -1))
    assert features.width == samples[0].numel()
    with pytest.raises(InputError, match="images: expected samples of shape"):
        features(torch.randn(3, 5, 5))


def test_classifier_features_are_frozen_and_deterministic(tmp_path):
    classifier = SmallClassifier(features=24)
    save_model(classifier, tmp_path / "judge.safetensors")
    images = torch.randn(4, 1, 8, 8)
    expected = classifier.eval().features(images).detach()
    for source in (classifier, tmp_path / "judge.safetensors"):
        features = ClassifierFeatures(source).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = features(images.double().requires_grad_())
        assert torch.equal(found, expected)
        assert found.shape == (4, features.width)
        assert not found.requires_grad
        assert not any(parameter.requires_grad for parameter in features.parameters())
    with pytest.raises(InputError, match=r"classifier expects \(1, 8, 8\)"):
        features(torch.randn(4, 1, 28, 28))


def test_a_file_of_another_model_and_an_unknown_name_are_named(tmp_path):
    from kdlight.networks.mlp import ScaleShiftMLP

    save_model(ScaleShiftMLP((2,), width=8, depth=1), tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="expected a SmallClassifier, found ScaleShiftMLP"):
        ClassifierFeatures(tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="classifier 'nobody': expected a file or one of"):
        bundled_classifier("nobody")


def test_bundled_classifier_is_found_by_name(tmp_path, monkeypatch):
    save_model(SmallClassifier(), tmp_path / "assets" / "toy_classifier.safetensors")
    monkeypatch.setattr(extractors.kdlight, "__file__", str(tmp_path / "__init__.py"))
    assert bundled_classifier("toy_classifier").num_classes == 10
    with pytest.raises(InputError, match="one of toy_classifier"):
        bundled_classifier("toy")


@pytest.fixture
def inception_weights(tmp_path, monkeypatch):
    """A file of random weights of the right names and shapes."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    cls = module.FeatureExtractorInceptionV3
    path = tmp_path / "inception.pth"
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(cls, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        torch.save(cls("fid", ["2048"]).state_dict(), path)
    return path


def test_inception_agrees_with_torch_fidelity(inception_weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("fid", ["2048"], str(inception_weights))
    ours = InceptionFeatures(inception_weights)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    features = ours(pixels / 127.5 - 1)
    assert torch.equal(features, theirs(pixels)[0])
    assert features.shape == (2, ours.width)
    grey = ours(pixels[:, :1] / 127.5 - 1)
    assert torch.equal(grey, theirs(pixels[:, :1].expand(-1, 3, -1, -1))[0])


def test_clean_inception_resizes_as_pillow_does(inception_weights):
    """Bicubic with antialiasing, channel by channel in floating point, as clean-fid."""
    pixels = torch.randint(0, 256, (1, 3, 400, 340), dtype=torch.uint8)
    features = InceptionFeatures(inception_weights, resize="clean")
    assert features.name == "inception_clean"
    seen = []
    first = features.network.Conv2d_1a_3x3
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    found = features(pixels / 127.5 - 1)
    assert found.shape == (1, 2048)
    for channel, plane in zip(pixels[0], seen[0][0], strict=True):
        image = Image.fromarray(channel.float().numpy(), mode="F")
        expected = np.asarray(image.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
        np.testing.assert_allclose(128 * plane.numpy() + 128, expected, atol=1e-3)


def test_inception_says_what_is_missing(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(InputError, match="no Inception weights there"):
        InceptionFeatures(tmp_path / "none.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"weights-inception.*no Inception weights there"):
        InceptionFeatures()
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(InputError, match="truncated, or not a file of weights alone"):
        InceptionFeatures(tmp_path / "bad.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pth")
    with pytest.raises(InputError, match="truncated, or not a file of weights alone"):
        InceptionFeatures(tmp_path / "pickle.pth")


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (InceptionFeatures, "torch-fidelity is not installed: install the extra 'fid' of kdlight"),
        (lambda: TimmFeatures("resnet18"), "timm is not installed: install timm"),
    ],
)
def test_a_missing_package_is_one_sentence(build, sentence, monkeypatch):
    for module in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3", "timm"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=sentence):
        build()


def test_transformers_folder(tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    model = ViTModel(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
        )
    ).eval()
    model.save_pretrained(tmp_path)
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5, 0.4, 0.3])
    processor.save_pretrained(tmp_path)
    features = TransformersFeatures(str(tmp_path))
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    prepared = processor(list((images + 1) / 2), do_rescale=False, return_tensors="pt")
    with torch.no_grad():
        expected = model(prepared["pixel_values"]).pooler_output
    assert torch.allclose(features(images), expected, atol=1e-5)
    assert features.width == 16
    assert features(torch.zeros(2, 1, 8, 8)).shape == (2, 16)
    with pytest.raises(InputError, match="none: no such file or folder"):
        TransformersFeatures(str(tmp_path / "none"))


def test_timm_folder(tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet", num_classes=0)
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    features = TimmFeatures(f"local-dir:{tmp_path}")
    assert features(torch.zeros(2, 1, 8, 8)).shape == (2, features.width)
    with pytest.raises(InputError, match="expected a pretrained model of timm"):
        TimmFeatures("no_such_model")
