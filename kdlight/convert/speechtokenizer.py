"""SpeechTokenizer, and the layout that it shares with its descendants."""

from pathlib import Path

from kdlight.codec.seanet import LayerPaddedCodec
from kdlight.convert.seanet import check_direction, common_names, read_weights, rebuild
from kdlight.core.hints import called
from kdlight.errors import InputError
from kdlight.storage.files import is_there, read_json


def convert_speechtokenizer(path: Path, sample_rate: int | None = None) -> LayerPaddedCodec:
    """SpeechTokenizer (arXiv:2308.16692) with the codes and audio of the original.

    Its convolutions pad on both sides by reflection and the LSTM of its encoder runs both ways, so
    that codes depend on the whole of the audio. The projection ``transform`` to the teacher's
    features takes no part in coding and is left out.

    Args:
        path: Its state dict (``SpeechTokenizer.pt``) or a checkpoint of its trainer. A
            ``config.json`` beside it, as published, gives the sample rate and the dilation.
        sample_rate: Samples per second; by default those of ``config.json``, or else 16,000.

    Raises:
        InputError: The file is another model's.
    """
    config = path.parent / "config.json"
    known = read_json(config) if is_there(config) else {}
    if not isinstance(known, dict):
        raise InputError(f"{config}: expected settings by name, found {called(known)}.")
    weights = {
        name: value
        for name, value in read_weights(path).items()
        if not name.startswith("transform.")
    }
    weights = common_names(weights)
    check_direction(weights, str(path), both_ways=True)
    return rebuild(
        weights,
        str(path),
        sample_rate or known.get("sample_rate", 16000),
        causal=False,
        dilation_base=known.get("dilation_base", 2),
    )
