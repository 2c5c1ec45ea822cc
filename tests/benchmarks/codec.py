"""Encoding and decoding against `encodec` and transformers: EnCodec's shape, the same weights.

A row counts milliseconds for a second of audio: a thousandth of it is the real-time factor. The
others run as their packages make them, in inference mode; kdlight's weight normalisation is folded,
which theirs computes again in every call.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from encodec.model import EncodecModel
from torch import Tensor
from transformers import EncodecModel as TransformersModel

from kdlight.codec.seanet import SEANet
from kdlight.convert.encodec import convert_encodec
from kdlight.export.transformers import export_transformers
from tests.benchmarks.interleave import Pairs, take_turns

SECONDS, BANDWIDTH = 4, 6.0


def codec(turns: int) -> list[Pairs]:
    """EnCodec at 24 kHz and 6 kbps, 8 levels, one item of four seconds."""
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    package = EncodecModel._get_model([BANDWIDTH], 24000, 1).eval()
    package.set_target_bandwidth(BANDWIDTH)
    audio = 0.3 * torch.randn(1, 1, SECONDS * 24000)
    with torch.no_grad():
        frames = package.encoder(audio)[0].T
        for layer in package.quantizer.vq.layers:
            layer._codebook.inited.fill_(1)
            chosen = torch.randint(0, len(frames), (1024,))
            layer._codebook.embed.copy_(frames[chosen] + 0.1 * torch.randn(1024, 128))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(package.state_dict(), folder / "encodec.th")
        ours = convert_encodec(folder / "encodec.th")
        export_transformers(ours, folder / "folder")
        other = TransformersModel.from_pretrained(folder / "folder").eval()
    for part in (ours.encoder, ours.decoder):
        assert isinstance(part, SEANet)
        part.fold_weight_norm()
    codes = ours.encode(audio)
    bandwidth = other.config.target_bandwidths[-1]
    theirs: dict[str, Callable[[], Tensor]] = {
        "encode, encodec": lambda: package.encode(audio)[0][0],
        "decode, encodec": lambda: package.decode([(codes, None)]),
        "encode, transformers": lambda: other.encode(audio, bandwidth=bandwidth).audio_codes[0],
        "decode, transformers": lambda: other.decode(codes[None], [None])[0],
    }
    rows = []
    with torch.inference_mode():
        for name, call in theirs.items():
            own = (lambda: ours.encode(audio)) if "encode," in name else lambda: ours.decode(codes)
            # One that did other work would be no comparison.
            torch.testing.assert_close(own().float(), call().float(), rtol=0, atol=1e-4)
            pairs = take_turns(f"{name}, EnCodec of 24 kHz", "second", own, call, turns)
            pairs.count = SECONDS
            rows.append(pairs)
    return rows
