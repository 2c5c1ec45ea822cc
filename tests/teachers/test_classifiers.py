"""Classifiers of libraries and runs give the library's own scores, before and after an export."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from kdlight.cli import main
from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError
from kdlight.export.classifier import export_classifier
from kdlight.networks.images.classifier import Classifier, SmallClassifier
from kdlight.networks.images.foreign_classifiers import (
    MEAN,
    SPREAD,
    TorchvisionClassifier,
    TransformersClassifier,
)
from kdlight.storage.files import save_model
from kdlight.teachers.classifiers import (
    run_classifier,
    timm_classifier,
    torchvision_classifier,
    transformers_classifier,
)

NARROW = {"width_mult": 0.25}
MOBILE = "mobilenet_v3_small"


def images(count: int = 2, channels: int = 3, side: int = 32) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, side, side, generator=source) * 2 - 1


@pytest.fixture(scope="module")
def mobile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a narrow network, as torchvision keeps its own."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(MOBILE, weights=None, num_classes=4, **NARROW)
    path = tmp_path_factory.mktemp("weights") / "mobile.pth"
    torch.save(model.state_dict(), path)
    return path


def test_torchvision_gives_the_scores_of_torchvision(mobile: Path) -> None:
    found = torchvision_classifier(MOBILE, str(mobile), 4, NARROW).eval()
    plain = torchvision.models.get_model(MOBILE, weights=None, num_classes=4, **NARROW).eval()
    plain.load_state_dict(torch.load(mobile))
    pixels = torchvision.transforms.functional.normalize(images() / 2 + 0.5, MEAN, SPREAD)
    torch.testing.assert_close(found(images()), plain(pixels))
    grey = images(channels=1)
    torch.testing.assert_close(found(grey), found(grey.expand(-1, 3, -1, -1)))
    assert found.provenance is not None
    assert len(found.provenance["sha256"]) == 64
    again = build(spec_of(found))
    again.load_state_dict(found.state_dict())
    torch.testing.assert_close(again.eval()(images()), found(images()), rtol=0, atol=0)


def test_a_new_head_keeps_the_rest(mobile: Path) -> None:
    with pytest.raises(InputError, match="expected shape"):
        torchvision_classifier(MOBILE, str(mobile), 7, NARROW)
    found = torchvision_classifier(MOBILE, str(mobile), 7, NARROW, new_head=True)
    assert found(images()).shape == (2, 7)
    known = torch.load(mobile)
    own = found.model.state_dict()
    assert [name for name in own if own[name].shape != known[name].shape] == [
        "classifier.3.weight",
        "classifier.3.bias",
    ]
    assert torch.equal(own["features.0.0.weight"], known["features.0.0.weight"])


def test_running_statistics_follow_as_fast_as_asked_for() -> None:
    for momentum, expected in ((None, 0.01), (0.1, 0.1)):
        found = build(spec_of(TorchvisionClassifier(MOBILE, 4, NARROW, norm_momentum=momentum)))
        layers = [each for each in found.modules() if isinstance(each, torch.nn.BatchNorm2d)]
        assert {layer.momentum for layer in layers} == {expected}


def test_names_and_settings_that_are_not_there_are_refused(mobile: Path) -> None:
    with pytest.raises(InputError, match="expected a classifier of torchvision, found 'resnet51'"):
        TorchvisionClassifier("resnet51")
    with pytest.raises(InputError, match="unexpected keyword"):
        TorchvisionClassifier("resnet18", settings={"no": 1})
    if find_spec("timm") is None:
        with pytest.raises(InputError, match=r"pip install 'kdlight\[timm\]'"):
            timm_classifier("resnet18", str(mobile))


def test_timm_gives_the_scores_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    plain = timm.create_model("resnet18", num_classes=5).eval()
    torch.save(plain.state_dict(), tmp_path / "resnet.pth")
    found = timm_classifier("resnet18", str(tmp_path / "resnet.pth"), 5).eval()
    pixels = torchvision.transforms.functional.normalize(images() / 2 + 0.5, MEAN, SPREAD)
    torch.testing.assert_close(found(images()), plain(pixels))
    with pytest.raises(InputError, match="expected a classifier of timm, found 'nope'"):
        timm_classifier("nope", str(tmp_path / "resnet.pth"), 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vision transformer of transformers with its processor."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8, num_labels=3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("vit")
    ViTForImageClassification(config).save_pretrained(path)
    processor = ViTImageProcessor(
        size={"height": 16, "width": 16}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]
    )
    processor.save_pretrained(path)
    return path


def test_transformers_gives_the_scores_of_transformers(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    found = transformers_classifier(str(folder)).eval()
    assert found.size == 16
    plain = AutoModelForImageClassification.from_pretrained(folder).eval()
    image = images(side=16)
    pixels = torchvision.transforms.functional.normalize(
        image / 2 + 0.5, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    )
    torch.testing.assert_close(found(image), plain(pixels).logits)
    assert found(images(side=40)).shape == (2, 3), "other sizes are resized"
    export_classifier(found, tmp_path / "out", "transformers", None, ["a", "b", "c"])
    again = transformers_classifier(str(tmp_path / "out")).eval()
    torch.testing.assert_close(again(image), found(image))
    assert again.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    with pytest.raises(InputError, match="expected one of an image classifier"):
        TransformersClassifier({"model_type": "gpt2"})
    with pytest.raises(InputError, match="expected an image classifier of transformers"):
        transformers_classifier(str(tmp_path))
    # A damaged file is not none: its mean and spread would be others.
    for damaged in ("{", "[1]", "[" * 100_000):
        (tmp_path / "out" / "preprocessor_config.json").write_text(damaged)
        with pytest.raises(InputError, match=r"preprocessor_config\.json: expected"):
            transformers_classifier(str(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["onnx", "torch", "state_dict"])
def test_exports_give_the_same_scores(kind: str, mobile: Path, tmp_path: Path) -> None:
    model: Classifier = torchvision_classifier(MOBILE, str(mobile), 4, NARROW).eval()
    about = export_classifier(model, tmp_path / "out", kind, (3, 32, 32), list("abcd"))
    expected = model(images(3)).detach()
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "out/classifier.onnx")
        found = torch.from_numpy(session.run(None, {"image": images(3).numpy()})[0])
        assert set(about["ms_per_image"]) == {"torch", "onnxruntime"}
    elif kind == "torch":
        found = torch.export.load(tmp_path / "out/classifier.pt2").module()(images(3))
    else:
        plain = torchvision.models.get_model(MOBILE, weights=None, num_classes=4, **NARROW).eval()
        plain.load_state_dict(load_file(tmp_path / "out/model.safetensors"))
        mean, std = about["mean"], about["std"]
        found = plain(torchvision.transforms.functional.normalize(images(3) / 2 + 0.5, mean, std))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert about["class_names"] == list("abcd")
    with pytest.raises(InputError, match="classifier of transformers"):
        export_classifier(model, tmp_path / "other", "transformers", None)


def test_the_command_exports_a_classifier_and_a_network_of_any_shape_is_refused(
    tmp_path: Path, mobile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(SmallClassifier(size=4, num_classes=2), tmp_path / "small.safetensors")
    words = ["export", "--checkpoint", str(tmp_path / "small.safetensors"), "--to", "torch"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "ms an image" in capsys.readouterr().out
    found = run_classifier(str(tmp_path / "small.safetensors"))
    assert found.num_classes == 2
    with pytest.raises(InputError, match="expected a classifier 'teacher', found small"):
        run_classifier(str(tmp_path / "small.safetensors"), "teacher")
    save_model(
        torchvision_classifier(MOBILE, str(mobile), 4, NARROW), tmp_path / "mobile.safetensors"
    )
    words[2] = str(tmp_path / "mobile.safetensors")
    assert main([*words, "--output", str(tmp_path / "any")]) == 2
    assert "expected the shape of the images" in capsys.readouterr().err
