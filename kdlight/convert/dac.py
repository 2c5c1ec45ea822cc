"""Checkpoints of `descript-audio-codec`, as DAC of transformers."""

from pathlib import Path
from typing import Any

from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.convert.weights import tensors_of, with_layers_renamed, without_weight_norm
from kdlight.errors import InputError
from kdlight.storage.files import load_tensors, load_weights

UNIT = ("snake1", "conv1", "snake2", "conv2")
SETTINGS = {
    "encoder_dim": "encoder_hidden_size",
    "encoder_rates": "downsampling_ratios",
    "decoder_dim": "decoder_hidden_size",
    "n_codebooks": "n_codebooks",
    "codebook_size": "codebook_size",
    "codebook_dim": "codebook_dim",
    "sample_rate": "sampling_rate",
}
"""Arguments of ``dac.DAC`` and what transformers calls them."""


def convert_dac(path: Path, sample_rate: int | None = None) -> TransformersCodec:
    """DAC (arXiv:2306.06546) with the codes and audio of the original.

    Args:
        path: A ``.pth`` as its authors published them, weights beside the arguments of the model.
        sample_rate: Samples per second, if not as the file says.

    Raises:
        InputError: The file is another model's, or of a DAC that transformers does not have.
    """
    found = load_tensors(path)
    metadata = found.get("metadata")
    arguments = metadata.get("kwargs") if isinstance(metadata, dict) else None
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: expected a checkpoint of DAC with metadata.kwargs, found none.")
    config = _config(arguments, str(path))
    if sample_rate is not None:
        config["sampling_rate"] = sample_rate
    codec = TransformersCodec(config)
    weights = without_weight_norm(tensors_of(found.get("state_dict"), str(path)))
    names = dac_layers(len(config["downsampling_ratios"]))
    load_weights(codec.model, with_layers_renamed(weights, names), str(path))
    return codec.eval()


def _config(arguments: dict[str, Any], source: str) -> dict[str, Any]:
    for name in SETTINGS:
        value = arguments.get(name)
        numbers = value if name == "encoder_rates" and isinstance(value, list) else [value]
        if not numbers or not all(type(each) is int and each > 0 for each in numbers):
            raise InputError(f"{source}: {name}: expected whole numbers above 0, found {value!r}.")
    rates = arguments["encoder_rates"]
    width = arguments["encoder_dim"] * 2 ** len(rates)
    for name, expected in (("decoder_rates", rates[::-1]), ("latent_dim", width)):
        value = arguments.get(name, expected)
        if value != expected:
            raise InputError(
                f"{source}: {name}: transformers has DACs of {expected} alone beside this encoder, "
                f"found {value!r}."
            )
    return {"model_type": "dac"} | {new: arguments[old] for old, new in SETTINGS.items()}


def dac_layers(stages: int, encoder: str = "encoder", decoder: str = "decoder") -> dict[str, str]:
    """Names of transformers' layers by those of the authors.

    Args:
        stages: Number of strides.
        encoder: What the authors call the encoder.
        decoder: And the decoder.
    """
    sides = (
        ("encoder", f"{encoder}.block", 0, {3: "snake1", 4: "conv1"}),
        ("decoder", f"{decoder}.model", 2, {0: "snake1", 1: "conv_t1"}),
    )
    names = {}
    for side, stack, first_unit, others in sides:
        names[f"{stack}.0"] = f"{side}.conv1"
        names[f"{stack}.{stages + 1}"] = f"{side}.snake1"
        names[f"{stack}.{stages + 2}"] = f"{side}.conv2"
        for stage in range(stages):
            old, new = f"{stack}.{stage + 1}.block", f"{side}.block.{stage}"
            names |= {f"{old}.{place}": f"{new}.{layer}" for place, layer in others.items()}
            for unit in range(3):
                for place, layer in enumerate(UNIT):
                    inner = f"{old}.{first_unit + unit}.block.{place}"
                    names[inner] = f"{new}.res_unit{unit + 1}.{layer}"
    return names
