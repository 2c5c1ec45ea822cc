from pathlib import Path

import pytest
import torch

from kdlight.export.traced import export_traced
from kdlight.teachers.codec import load_codec
from tests.codec.foreign.models import MAKERS


@pytest.mark.slow  # ten seconds of tracing each
@pytest.mark.parametrize("name", ["dac", "xcodec"])
def test_programs_of_transformers_codecs_give_their_codes_and_audio(
    name: str, tmp_path: Path
) -> None:
    MAKERS[name]().save_pretrained(tmp_path / "model")
    codec = load_codec(str(tmp_path / "model"), None)
    export_traced(codec, tmp_path / "programs", "torch")
    encode, decode = (
        torch.export.load(tmp_path / "programs" / f"{part}.pt2").module()
        for part in ("encoder", "decoder")
    )
    audio = 0.3 * torch.randn(3, 1, 200 * codec.hop_length)
    codes = codec.encode(audio)
    assert torch.equal(encode(audio), codes)
    assert torch.equal(decode(codes), codec.decode(codes))
