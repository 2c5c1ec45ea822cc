"""EnCodec at 24 kHz: checkpoints of the package `encodec`, and folders of transformers."""

from pathlib import Path

from kdlight.codec.seanet import LayerPaddedCodec
from kdlight.convert.seanet import check_direction, common_names, read_weights, rebuild
from kdlight.errors import InputError
from kdlight.storage.files import read_json


def convert_encodec(path: Path, sample_rate: int | None = None) -> LayerPaddedCodec:
    """EnCodec (arXiv:2210.13438) with the codes and audio of the original.

    The published model at 24 kHz is causal, mono, and takes audio as it is. The one at 48 kHz
    scales every second to unit power, in stereo and in overlapping pieces; it is refused.

    Args:
        path: State dict of ``encodec.EncodecModel``, or a folder that
            ``transformers.EncodecModel.save_pretrained`` wrote.
        sample_rate: Samples per second; a folder knows, a state dict is taken to be 24,000.

    Raises:
        InputError: The model is another one.
    """
    if not path.is_dir():
        state = common_names(read_weights(path))
        check_direction(state, str(path), both_ways=False)
        return rebuild(state, str(path), sample_rate or 24000, True)
    config = read_json(path / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "encodec":
        raise InputError(f"{path / 'config.json'}: expected model_type encodec.")
    for key, allowed in (
        ("normalize", False),
        ("chunk_length_s", None),
        ("audio_channels", 1),
        ("norm_type", "weight_norm"),
        ("trim_right_ratio", 1.0),
    ):
        found = config.get(key, allowed)
        if found != allowed:
            raise InputError(
                f"{path / 'config.json'}: {key}: kdlight has codecs with {allowed}, found {found}."
            )
    files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
    weights = next((file for file in files if file.is_file()), files[0])
    return rebuild(
        common_names(read_weights(weights)),
        str(weights),
        sample_rate or config.get("sampling_rate", 24000),
        config.get("use_causal_conv", True),
        config.get("pad_mode", "reflect"),
        config.get("dilation_growth_rate", 2),
    )
