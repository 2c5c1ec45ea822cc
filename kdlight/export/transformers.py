"""A codec as a folder that ``transformers.EncodecModel`` loads."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import LayerPaddedCodec, SEANet, SEANetDecoder, SEANetEncoder
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.pretrained import silent

INSTEAD = "export --to torch instead"
NORMED = "parametrizations.weight.original"

CARD = """---
library_name: transformers
pipeline_tag: audio-to-audio
---
A neural codec made with kdlight: {sample_rate} Hz, {frame_rate:g} frames a second, up to {n_q}
levels of {codebook_size} codes.

```python
from transformers import EncodecModel

model = EncodecModel.from_pretrained("path/to/this/folder")
encoded = model.encode(audio, bandwidth={bandwidth})  # audio (B, 1, T)
audio = model.decode(encoded.audio_codes, encoded.audio_scales)[0]
```

Levels by bandwidth: {bandwidths}.
{padding}"""

PADDING = """
Pad the audio with silence to a whole number of frames, {hop_length} samples each, as kdlight does:
transformers pads every layer by itself, which gives another last frame.
"""


def export_transformers(codec: Codec, path: Path) -> None:
    """Write a codec so that transformers' ``from_pretrained(path)`` gives its codes and audio.

    A codec that came from transformers goes back as what it was, a codec of kdlight as an
    ``EncodecModel``.

    Args:
        codec: A :class:`TransformersCodec`; or SEANets of one shape with an LSTM that runs
            forwards, and a :class:`ResidualVQ`.
        path: Folder; an earlier export there is replaced as a whole.

    Raises:
        InputError: ``EncodecModel`` cannot express the codec, or something else lives at ``path``.
    """
    if isinstance(codec, TransformersCodec):
        with atomic_folder(path, "config.json") as folder, silent():
            codec.model.save_pretrained(folder)
        return
    from transformers import EncodecConfig, EncodecFeatureExtractor, EncodecModel

    _check(codec)
    bandwidths = bandwidths_of(codec)
    config = EncodecConfig(**_settings(codec.encoder), **_settings_of_codec(codec, bandwidths))
    model = EncodecModel(config)
    model.load_state_dict(foreign_names(codec))
    extractor = EncodecFeatureExtractor(feature_size=1, sampling_rate=codec.sample_rate)
    card = CARD.format(
        sample_rate=codec.sample_rate,
        frame_rate=codec.frame_rate,
        n_q=codec.n_q,
        codebook_size=codec.codebook_size,
        bandwidth=bandwidths[-1],
        bandwidths=", ".join(
            f"{value} kbps: {level + 1}" for level, value in enumerate(bandwidths)
        ),
        padding=""
        if isinstance(codec, LayerPaddedCodec)
        else PADDING.format(hop_length=codec.hop_length),
    )
    with atomic_folder(path, "config.json") as folder:
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")


def bandwidths_of(codec: Codec) -> list[float]:
    """The kilobits per second by which transformers asks for 1, 2, ..., n_q levels.

    It divides a bandwidth by the bits of a level at a frame rate rounded up, and rounds down, so
    each is taken up to the next float where rounding would lose a level.
    """
    bits = math.ceil(codec.frame_rate) * math.ceil(math.log2(codec.codebook_size))
    found = []
    for level in range(1, codec.n_q + 1):
        kbps = level * bits / 1000
        while math.floor(kbps * 1000 / bits) < level or 1000 * kbps // bits < level:
            kbps = math.nextafter(kbps, math.inf)
        found.append(kbps)
    return found


def foreign_names(codec: Codec) -> dict[str, Tensor]:
    """Weights of a codec under the names that transformers gives them."""
    renamed: dict[str, Tensor] = {}
    for name, value in codec.state_dict().items():
        if name.startswith("quantizer."):
            level, _, tensor = name.removeprefix("quantizer.layers.").partition(".")
            book = f"quantizer.layers.{level}.codebook"
            if tensor == "updates":
                renamed[f"{book}.inited"] = torch.ones(1)
            else:
                known = {"codebook": "embed", "cluster_sum": "embed_avg"}
                renamed[f"{book}.{known.get(tensor, tensor)}"] = value
        elif ".lstm." in name:
            renamed[name] = value
        elif name.endswith(".weight"):
            # Folded: a direction that is the weight itself, and its length.
            stem = re.sub(r"\.weight$", f".conv.{NORMED}", name)
            renamed[f"{stem}0"] = torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)
            renamed[f"{stem}1"] = value
        else:
            renamed[re.sub(r"\.(bias|parametrizations)", r".conv.\1", name, count=1)] = value
    return renamed


def _settings(encoder: Any) -> dict[str, Any]:
    """The arguments of a SEANet under the names of ``EncodecConfig``."""
    given = encoder._init_args
    return {
        "hidden_size": given["dimension"],
        "num_filters": given["n_filters"],
        "num_residual_layers": given["n_residual_layers"],
        "upsampling_ratios": list(given["ratios"]),
        "kernel_size": given["kernel_size"],
        "last_kernel_size": given["last_kernel_size"],
        "residual_kernel_size": given["residual_kernel_size"],
        "dilation_growth_rate": given["dilation_base"],
        "use_causal_conv": given["causal"],
        "pad_mode": given["pad_mode"],
        "compress": given["compress"],
        "num_lstm_layers": given["lstm"],
        "use_conv_shortcut": not given["true_skip"],
    }


def _settings_of_codec(codec: Codec, bandwidths: list[float]) -> dict[str, Any]:
    return {
        "sampling_rate": codec.sample_rate,
        "codebook_size": codec.codebook_size,
        "target_bandwidths": bandwidths,
    }


def _check(codec: Codec) -> None:
    """Refuse what ``EncodecModel`` cannot express."""
    encoder, decoder, quantizer = codec.encoder, codec.decoder, codec.quantizer
    shaped = isinstance(encoder, SEANetEncoder) and isinstance(decoder, SEANetDecoder)
    if not shaped or type(quantizer) is not ResidualVQ:
        parts = ", ".join(type(part).__name__ for part in (encoder, quantizer, decoder))
        raise InputError(
            f"transformers' EncodecModel needs SEANetEncoder, ResidualVQ, SEANetDecoder, "
            f"found {parts}: {INSTEAD}."
        )
    assert isinstance(encoder, SEANet)
    assert isinstance(decoder, SEANet)
    mine, other = (
        {key: value for key, value in part._init_args.items() if key != "norm"}
        for part in (encoder, decoder)
    )
    differing = [key for key in mine if _plain(mine[key]) != _plain(other[key])]
    wrong = {
        "the LSTM of the encoder runs both ways": mine["bidirectional"],
        "there is no LSTM": not mine["lstm"],
        f"the activation is {mine['activation']}, not elu": mine["activation"] != "elu",
        f"encoder and decoder differ in {', '.join(differing)}": bool(differing),
        f"codebook_size {codec.codebook_size} is no power of 2": codec.codebook_size
        & (codec.codebook_size - 1),
    }
    reason = next((reason for reason, found in wrong.items() if found), None)
    if reason:
        raise InputError(
            f"transformers' EncodecModel cannot express this codec, {reason}: {INSTEAD}."
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
