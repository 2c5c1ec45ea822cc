"""Codecs of a SEANet and a residual quantiser, rebuilt from their weights alone.

EnCodec's layout, which its descendants kept, names a layer by its place in the stack, so that the
names and shapes of the weights tell nearly all of the architecture. What they cannot tell (sample
rate, causality, padding, dilation) the caller knows from the family.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import LayerPaddedCodec, SEANet, SEANetDecoder, SEANetEncoder
from kdlight.errors import InputError
from kdlight.storage.files import load_tensors, load_weights

Weights = dict[str, Tensor]
WRAPPERS = ("generator", "state_dict", "best_state", "model")
"""Keys below which trainers put the weights of the codec."""
NORMED = "parametrizations.weight.original"


def read_weights(path: Path) -> Weights:
    """Tensors of a ``.safetensors`` file or of a PyTorch checkpoint, without running its pickle.

    Raises:
        InputError: The file is missing, damaged, holds objects, or holds no weights of a codec.
    """
    found = load_tensors(path)
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in found.items()
        if isinstance(value, Tensor)
    }
    if not any(name.startswith("encoder.") for name in tensors):
        raise InputError(f"{path}: expected weights named encoder.*, found none.")
    return tensors


def common_names(weights: Weights) -> Weights:
    """Weights under the names of kdlight's modules.

    Layers of `encodec`, of SpeechTokenizer and of transformers differ from ours in the wrappers
    around a convolution, in the name of weight normalisation, and in those of a codebook.
    """
    renamed = {}
    for name, value in weights.items():
        name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
        name = re.sub(r"(\.conv|\.convtr)+\.(?=weight|bias|parametrizations)", ".", name)
        name = re.sub(r"\.weight_g$", f".{NORMED}0", name)
        name = re.sub(r"\.weight_v$", f".{NORMED}1", name)
        name = re.sub(r"^quantizer\.vq\.", "quantizer.", name)
        name = re.sub(r"^(quantizer\.layers\.\d+)\._?codebook\.", r"\1.", name)
        name = re.sub(r"\.embed_avg$", ".cluster_sum", name)
        name = re.sub(r"\.embed$", ".codebook", name)
        if name.endswith(".inited"):
            name, value = name.replace("inited", "updates"), (value.reshape(()) > 0).long()
        renamed[name] = value
    return renamed


def check_direction(weights: Weights, source: str, both_ways: bool) -> None:
    """Tell EnCodec from the families that have its layers and names, by the encoder's LSTM.

    Args:
        weights: Under the names of :func:`common_names`.
        source: The file, for messages.
        both_ways: Whether the LSTM of the family's encoder runs both ways.

    Raises:
        InputError: There is an LSTM, and it is the other family's.
    """
    memory = [name for name in weights if re.match(r"encoder\..*\.weight_ih_l", name)]
    found = any(name.endswith("_reverse") for name in memory)
    if memory and found != both_ways:
        ways = {
            True: "an LSTM that runs both ways, as in SpeechTokenizer and DM-Codec",
            False: "an LSTM that runs forwards, as in EnCodec",
        }
        other = "encodec" if both_ways else "speechtokenizer (or dmcodec)"
        raise InputError(
            f"{source}: encoder: expected {ways[both_ways]}, found {ways[found]}: convert {other}."
        )


def rebuild(
    weights: Weights,
    source: str,
    sample_rate: int,
    causal: bool,
    pad_mode: str = "reflect",
    dilation_base: int = 2,
) -> LayerPaddedCodec:
    """The codec of some weights, in evaluation mode.

    Args:
        weights: Under the names of :func:`common_names`.
        source: The file, for messages.
        sample_rate: Samples per second.
        causal: Whether convolutions pad on the left only.
        pad_mode: How they pad.
        dilation_base: Of residual units, where a stride has more than one.

    Raises:
        InputError: The weights are those of no mono codec of this kind.
    """
    if any(re.search(r"\.norm\.(weight|bias)$", name) for name in weights):
        raise InputError(
            f"{source}: group normalisation (as of EnCodec at 48 kHz) has no counterpart in "
            "kdlight: expected weight normalisation."
        )
    known: dict[str, Any] = {"causal": causal, "pad_mode": pad_mode, "dilation_base": dilation_base}
    encoder = SEANetEncoder(**seanet_shape(weights, "encoder", source), **known)
    decoder = SEANetDecoder(**seanet_shape(weights, "decoder", source), **known)
    _check_same_rate(encoder, decoder, source)
    quantizer = quantizer_of(weights, encoder.dimension, source)
    codec = LayerPaddedCodec(encoder, quantizer, decoder, sample_rate, encoder.hop_length)
    load_weights(codec, weights, source)
    return codec.eval()


def quantizer_of(weights: Weights, dimension: int, source: str) -> ResidualVQ:
    """The quantiser that the codebooks tell, without its weights.

    Raises:
        InputError: There are none, or they lie behind a projection.
    """
    if any(".project_" in name for name in weights):
        raise InputError(f"{source}: codebooks behind a projection have no counterpart in kdlight.")
    books = [name for name in weights if re.fullmatch(r"quantizer\.layers\.\d+\.codebook", name)]
    if not books:
        raise InputError(f"{source}: expected codebooks named quantizer.*, found none.")
    return ResidualVQ(dimension, len(books), len(weights[books[0]]))


def seanet_shape(weights: Weights, part: str, source: str) -> dict[str, Any]:
    """Arguments of a :class:`SEANet` that its weights tell."""
    layers = _layers(weights, part)
    first, last = layers.get(0, {}), layers.get(max(layers, default=0), {})
    strided = [
        layer["kernel"] // 2
        for index, layer in sorted(layers.items())
        if layer["kind"] == "conv" and index not in (0, max(layers))
    ]
    units = [layer for layer in layers.values() if layer["kind"] == "unit"]
    memory = [layer for layer in layers.values() if layer["kind"] == "lstm"]
    if first.get("kind") != "conv" or last.get("kind") != "conv" or not strided or not units:
        raise InputError(f"{source}: {part}: expected the layers of a SEANet, found others.")
    encoder = part == "encoder"
    if (first["inputs"] if encoder else last["outputs"]) != 1:
        raise InputError(f"{source}: {part}: expected one channel of audio, found 2: not mono.")
    lstm = memory[0] if memory else {"layers": 0, "both_ways": False}
    narrow = min(unit["channels"] for unit in units)
    return {
        "dimension": last["outputs"] if encoder else first["inputs"],
        "n_filters": narrow,
        "n_residual_layers": len(units) // len(strided),
        "ratios": tuple(reversed(strided)) if encoder else tuple(strided),
        "kernel_size": first["kernel"],
        "last_kernel_size": last["kernel"],
        "residual_kernel_size": units[0]["kernel"],
        "compress": units[0]["channels"] // units[0]["hidden"],
        "true_skip": not units[0]["shortcut"],
        "lstm": lstm["layers"],
        "bidirectional": lstm["both_ways"],
        "activation": "snake" if any(name.endswith(".alpha") for name in weights) else "elu",
        "norm": "weight_norm" if any(NORMED in name for name in weights) else "none",
    }


def _layers(weights: Weights, part: str) -> dict[int, dict[str, Any]]:
    """What each layer with a convolution or an LSTM is, by its place in the stack."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in weights.items():
        match = re.fullmatch(rf"{part}\.layers\.(\d+)\.(.+)", name)
        if match is None:
            continue
        index, rest = int(match[1]), match[2]
        if rest in ("weight", f"{NORMED}1"):
            out, inputs, kernel = value.shape
            found[index] = {"kind": "conv", "outputs": out, "inputs": inputs, "kernel": kernel}
        elif rest in ("block.1.weight", f"block.1.{NORMED}1"):
            hidden, channels, kernel = value.shape
            prefix = f"{part}.layers.{index}.shortcut."
            found[index] = {
                "kind": "unit",
                "hidden": hidden,
                "channels": channels,
                "kernel": kernel,
                "shortcut": any(other.startswith(prefix) for other in weights),
            }
        elif rest == "lstm.weight_ih_l0":
            prefix = f"{part}.layers.{index}.lstm.weight_ih_l"
            names = [other for other in weights if other.startswith(prefix)]
            found[index] = {
                "kind": "lstm",
                "layers": sum(not other.endswith("_reverse") for other in names),
                "both_ways": any(other.endswith("_reverse") for other in names),
            }
    return found


def _check_same_rate(encoder: SEANet, decoder: SEANet, source: str) -> None:
    if encoder.ratios != decoder.ratios:
        raise InputError(
            f"{source}: expected the same strides in encoder and decoder, "
            f"found {encoder.ratios} and {decoder.ratios}."
        )
