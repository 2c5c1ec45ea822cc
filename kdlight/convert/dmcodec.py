"""DM-Codec."""

from pathlib import Path

from kdlight.codec.seanet import LayerPaddedCodec
from kdlight.convert.speechtokenizer import convert_speechtokenizer


def convert_dmcodec(path: Path, sample_rate: int | None = None) -> LayerPaddedCodec:
    """DM-Codec (arXiv:2410.15017) with the codes and audio of the original.

    It is SpeechTokenizer's architecture, trained from other teachers: same layers, names and
    settings (16 kHz, 50 frames a second, 8 levels of 1024 codes).

    Args:
        path: Its state dict, or a checkpoint of its trainer.
        sample_rate: See :func:`convert_speechtokenizer`.

    Raises:
        InputError: The file is another model's.
    """
    return convert_speechtokenizer(path, sample_rate)
