import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdlight.core.spec import Recorded, build, spec_of
from kdlight.diffusion.denoisers import EDMDenoiser, GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid, NestedGrid
from kdlight.errors import InputError
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import (
    load_checkpoint,
    load_model,
    load_weights,
    read_json,
    save_model,
    sha256_of,
    write_json,
)


def small_generator():
    network = ScaleShiftMLP((1, 2, 2), 8, 1, num_classes=3, embedding=8)
    nn.init.normal_(network.output.weight)
    denoiser = GuidedDenoiser(EDMDenoiser(network, 0.4), 1.5)
    return Generator(denoiser, NestedGrid(KarrasGrid(), 8), (1, 2, 2), "euler", (4, 8))


# Specs --------------------------------------------------------------------------------------


def test_spec_says_what_a_config_would():
    assert spec_of(NestedGrid(KarrasGrid(0.01), 8)) == {
        "class_path": "kdlight.diffusion.sigmas.NestedGrid",
        "init_args": {
            "base": {
                "class_path": "kdlight.diffusion.sigmas.KarrasGrid",
                "init_args": {"sigma_min": 0.01, "sigma_max": 80.0, "rho": 7.0},
            },
            "base_steps": 8,
        },
    }


def test_spec_survives_json_and_builds_the_same_thing():
    generator = small_generator()
    spec = spec_of(generator)
    again = build(json.loads(json.dumps(spec)))
    assert spec_of(again) == spec
    again.load_state_dict(generator.state_dict())
    noise = torch.randn(5, 1, 2, 2)
    condition = {"label": torch.tensor([0, 1, 2, 3, 0])}
    assert torch.equal(again(noise, condition), generator(noise, condition))


def test_spec_follows_a_part_that_was_swapped():
    denoiser = EDMDenoiser(ScaleShiftMLP((2,), 8, 1, embedding=8))
    denoiser.network = ScaleShiftMLP((2,), 16, 1, embedding=8)
    assert spec_of(denoiser)["init_args"]["network"]["init_args"]["width"] == 16


def test_only_the_outermost_arguments_are_recorded():
    class Base(Recorded):
        def __init__(self, a, b=2):
            self.a, self.b = a, b

    class Derived(Base):
        def __init__(self, c, **kwargs):
            super().__init__(a=c + 1, **kwargs)

    assert spec_of(Derived(3, b=5))["init_args"] == {"c": 3, "b": 5}
    assert spec_of(Base(1))["init_args"] == {"a": 1, "b": 2}


def test_what_no_file_can_describe_is_refused():
    with pytest.raises(TypeError, match="cannot describe a Linear"):
        spec_of({"network": nn.Linear(2, 2)})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "expected a class of kd"),
        ({"class_path": "kdlightish.files.Thing"}, "expected a class of kdlight"),
        ({"class_path": "KarrasGrid"}, "expected a class of kdlight"),
        ({"class_path": "kdlight.nowhere.Thing"}, "no such class"),
        ({"class_path": "kdlight.diffusion.sigmas.Thing"}, "no such class"),
        ({"class_path": "kdlight.storage.files.save_model"}, "not a part that can be built"),
        ({"class_path": "kdlight.storage.files.Path"}, "not a part that can be built"),
        (
            {"class_path": "kdlight.diffusion.sigmas.KarrasGrid", "init_args": {"low": 1}},
            "unexpected keyword argument 'low'",
        ),
        ({"class_path": "kdlight.diffusion.sigmas.NestedGrid"}, "missing a required argument"),
    ],
)
def test_foreign_or_wrong_specs_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        build({"part": [spec]})


# Files --------------------------------------------------------------------------------------


def test_model_roundtrip(tmp_path):
    generator = small_generator()
    path = tmp_path / "deep" / "model.safetensors"
    save_model(generator, path, {"seed": 3})
    again = load_model(path)
    assert not again.training
    noise = torch.randn(3, 1, 2, 2)
    assert torch.equal(again(noise), generator.eval()(noise))
    assert json.loads(path.with_suffix(".json").read_text())["notes"] == {"seed": 3}
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    assert len(sha256_of(path)) == 64


def test_half_precision_is_half_the_size_and_refuses_what_it_cannot_hold(tmp_path):
    generator = small_generator()
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_model(generator, whole)
    save_model(generator, half, half=True)
    stored = load_file(half)
    rebuilt = load_model(half).state_dict()
    for name, value in generator.state_dict().items():
        assert rebuilt[name].dtype == value.dtype
        if value.is_floating_point():
            assert stored[name].dtype == torch.float16
            assert torch.equal(rebuilt[name], value.half().to(value.dtype))
    weight = next(generator.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = 7e4
    with pytest.raises(InputError, match="expected weights within 65504 for float16, found 70000"):
        save_model(generator, tmp_path / "large.safetensors", half=True)
    assert not (tmp_path / "large.safetensors").exists()


def damage(path, how):
    description = path.with_suffix(".json")
    value = json.loads(description.read_text())
    if how == "no weights":
        path.unlink()
    elif how == "no description":
        description.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif how == "not json":
        description.write_text("{")
    elif how == "binary json":
        description.write_bytes(b"\xff\xfe\x00\xd8")
    elif how == "other format":
        description.write_text(json.dumps({**value, "format": "other"}))
    elif how == "no spec":
        description.write_text(json.dumps({"format": value["format"]}))
    elif how == "other width":
        network = value["spec"]["init_args"]["denoiser"]["init_args"]["denoiser"]["init_args"]
        network["network"]["init_args"]["width"] = 16
        description.write_text(json.dumps(value))
    elif how == "other depth":
        network = value["spec"]["init_args"]["denoiser"]["init_args"]["denoiser"]["init_args"]
        network["network"]["init_args"]["depth"] = 2
        description.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", r"model.safetensors: no such file"),
        ("no description", r"model.json: no such file"),
        ("truncated", "truncated, or not a safetensors file"),
        ("not json", "expected JSON"),
        ("binary json", "expected JSON"),
        ("other format", "expected format kdlight-model-1"),
        ("no spec", "expected a spec"),
        ("other width", r"expected shape \(\d+.* found shape|expected shape .*, found"),
        ("other depth", r"\d+ missing \(.*\), 0 unexpected"),
    ],
)
def test_damaged_models_are_named_in_one_sentence(tmp_path, how, message):
    path = tmp_path / "model.safetensors"
    save_model(small_generator(), path)
    damage(path, how)
    with pytest.raises(InputError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_model_name_must_end_in_safetensors(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        save_model(small_generator(), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_checkpoints_with_pickled_objects_are_refused(tmp_path):
    good, pickled, cut = (tmp_path / name for name in ("good.ckpt", "pickled.ckpt", "cut.ckpt"))
    torch.save({"state_dict": {"a": torch.ones(2)}}, good)
    torch.save({"state_dict": {"a": KarrasGrid()}}, pickled)
    cut.write_bytes(good.read_bytes()[:100])
    assert torch.equal(load_checkpoint(good)["state_dict"]["a"], torch.ones(2))
    for path in (pickled, cut):
        with pytest.raises(InputError, match="truncated, or not a checkpoint"):
            load_checkpoint(path)
    with pytest.raises(InputError, match=r"no such file\.$"):
        load_checkpoint(tmp_path / "none.ckpt")
    kept = tmp_path / "runs/own/version_0/checkpoints/last.ckpt"
    with pytest.raises(InputError, match="no such file; train the configuration with `name: own`"):
        load_checkpoint(kept)
    kept.parent.mkdir(parents=True)
    good.rename(kept)
    for folder in (kept.parents[1], kept.parents[2]):
        with pytest.raises(InputError, match=rf"found a folder; did you mean {kept}\.$"):
            load_checkpoint(folder)
    torch.save([1, 2], cut)
    with pytest.raises(InputError, match="found something else"):
        load_checkpoint(cut)


def flip(path, at):
    """One bit of one byte changes."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_of_a_checkpoint_is_noticed_and_its_record_named(tmp_path):
    path = tmp_path / "last.ckpt"
    weights = torch.arange(1000.0)
    torch.save({"state_dict": {"a": weights}}, path)
    at = path.read_bytes().index(weights.numpy().tobytes()) + 2002
    flip(path, at)
    with pytest.raises(InputError, match=r"last.ckpt: damaged: record last/data/0 has changed"):
        load_checkpoint(path)


def test_a_flipped_byte_of_a_model_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(small_generator(), path)
    flip(path, -5)
    with pytest.raises(InputError, match="damaged, or not the weights that model.json describes"):
        load_model(path)
    # Files of 0.1.0 have no checksum.
    description = json.loads(path.with_suffix(".json").read_text())
    del description["weights_sha256"]
    path.with_suffix(".json").write_text(json.dumps(description))
    load_model(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (torch.zeros(2, 3, dtype=torch.complex64), "expected float32, found complex64"),
        (torch.zeros(2, 3, dtype=torch.int64), "expected float32, found int64"),
        (torch.zeros(2, 3).to_sparse(), "expected float32, found sparse float32"),
        ([1.0], "expected a tensor, found a list"),
        (None, "expected a tensor, found null"),
    ],
)
def test_weights_of_another_kind_are_refused(wrong, said):
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(InputError, match=f"x: weight weight: {said}"):
        load_weights(layer, layer.state_dict() | {"weight": wrong}, "x")
    half = {name: value.half() for name, value in layer.state_dict().items()}
    load_weights(layer, half, "x")


def test_weights_that_are_not_numbers_are_refused():
    weights = torch.nn.Linear(2, 1).state_dict()
    weights["bias"][0] = float("nan")
    with pytest.raises(InputError, match="x: weight bias: expected numbers, found a NaN"):
        load_weights(torch.nn.Linear(2, 1), weights, "x")


def test_atomic_path_names_the_place_that_is_a_folder(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        write_json(tmp_path / "x.json", {})
    assert refused.value.filename == str(tmp_path / "x.json")
