"""A codec of transformers as a codec of kdlight."""

import math
from typing import Any, NamedTuple, Self

from torch import nn

from kdlight.codec.codec import Codec
from kdlight.codec.foreign.parts import MimiEncoder, WholeFrames, XcodecDecoder, XcodecEncoder
from kdlight.codec.foreign.quantizers import DacVQ, FixedResidualVQ, FixedSplitVQ
from kdlight.codec.quantization import Quantizer
from kdlight.errors import InputError
from kdlight.storage.pretrained import one_sentence, refuse_endless

CLASSES = {"encodec": "Encodec", "dac": "Dac", "mimi": "Mimi", "xcodec": "Xcodec"}
"""Names that the classes of transformers begin with, by ``model_type``."""
PADDED_BY_LAYERS = ("encodec", "mimi")
"""Those whose convolutions fill up a last frame; processors fill it for the others."""


class Parts(NamedTuple):
    """What the arguments of a codec are made of.

    Attributes:
        encoder: Audio to latents.
        quantizer: Of latents.
        decoder: Latents to audio.
        sample_rate: Samples per second.
        hop_length: Samples of a frame.
    """

    encoder: nn.Module
    quantizer: Quantizer
    decoder: nn.Module
    sample_rate: int
    hop_length: int


class TransformersCodec(Codec):
    """EnCodec, DAC, Mimi or X-Codec of transformers, with the codes and audio of the original.

    Audio whose last frame is not full is filled up as the original does: by the layers of EnCodec
    and Mimi, with silence for DAC and X-Codec, whose processors do so.

    The model itself stays in evaluation mode in training, but for LSTMs: dropout would draw from
    a generator that no checkpoint holds.

    Args:
        config: What the ``config.json`` of a folder of transformers says.

    Raises:
        InputError: As :meth:`check`, or the settings make no model.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.check(config)
        model = model_of(config)
        self._model = (model,)  # in a tuple, so that its weights are counted once
        super().__init__(*PARTS[config["model_type"]](model))

    @classmethod
    def check(cls, config: Any) -> None:
        """Refuse what is no configuration of a codec of mono audio as a whole.

        Raises:
            InputError: It is another model's, or audio is stereo, scaled, or cut in pieces.
        """
        kind = config.get("model_type") if isinstance(config, dict) else None
        if not isinstance(kind, str) or kind not in CLASSES:
            raise InputError(f"model_type: expected {', '.join(CLASSES)}, found {kind!r}.")
        for key, allowed in (("audio_channels", 1), ("normalize", False), ("chunk_length_s", None)):
            found = config.get(key, allowed)
            if found != allowed:
                raise InputError(f"{key}: expected {allowed} without pieces, found {found}.")

    @property
    def model(self) -> Any:
        """The model of transformers, which shares its weights with this codec."""
        return self._model[0]

    def train(self, mode: bool = True) -> Self:
        """Switch to training or back; see the class."""
        super().train(mode)
        for part in self.model.modules():
            # cuDNN has a gradient for an LSTM in training mode alone.
            part.training = mode and isinstance(part, nn.LSTM)
        return self

    @property
    def padded_by_layers(self) -> bool:
        """Whether the layers fill up a last frame themselves."""
        return self.model.config.model_type in PADDED_BY_LAYERS

    def coded_samples(self, samples: int) -> int:
        if self.padded_by_layers:
            return samples
        return super().coded_samples(samples)


def model_of(config: dict[str, Any]) -> Any:
    """The model that a configuration describes, with random weights.

    Raises:
        InputError: The settings make no model.
    """
    import transformers  # takes seconds

    name = CLASSES[config["model_type"]]
    refuse_endless(config, "config")
    with one_sentence("config", f"settings of transformers' {name}Model"):
        settings = getattr(transformers, f"{name}Config").from_dict(config)
        return getattr(transformers, f"{name}Model")(settings)


def _encodec(model: Any) -> Parts:
    config = model.config
    return Parts(
        model.encoder,
        FixedResidualVQ(model.quantizer.layers, config.hidden_size, config.codebook_size),
        WholeFrames(model.decoder, config.hop_length),
        config.sampling_rate,
        config.hop_length,
    )


def _dac(model: Any) -> Parts:
    config = model.config
    hop = math.prod(config.downsampling_ratios)
    quantizer = DacVQ(model.quantizer.quantizers, config.hidden_size, config.codebook_size)
    decoder = WholeFrames(model.decoder, hop)
    return Parts(model.encoder, quantizer, decoder, config.sampling_rate, hop)


def _mimi(model: Any) -> Parts:
    config = model.config
    hop = math.prod(config.upsampling_ratios) * config.latent_stride
    return Parts(
        MimiEncoder(model.encoder),
        FixedSplitVQ(
            model.quantizer, config.hidden_size, config.codebook_size, config.codebook_dim
        ),
        WholeFrames(model.decoder, hop),
        config.sampling_rate,
        hop,
    )


def _xcodec(model: Any) -> Parts:
    config = model.config
    return Parts(
        XcodecEncoder(model),
        FixedResidualVQ(model.quantizer.quantizers, config.hidden_size, config.codebook_size),
        WholeFrames(XcodecDecoder(model), config.hop_length),
        config.sample_rate,
        config.hop_length,
    )


PARTS = {"encodec": _encodec, "dac": _dac, "mimi": _mimi, "xcodec": _xcodec}
