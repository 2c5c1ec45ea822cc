"""``encode``: audio files to token files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdlight.codec.codec import Codec, facts_of
from kdlight.codec.convolution import fold_weight_norm
from kdlight.codec.streaming import encode_stream
from kdlight.commands.parsing.arguments import Parser
from kdlight.commands.shared.codecs import CODEC, add_blocks, add_codec, check_levels
from kdlight.commands.shared.trees import Told, each_in_turn, planned
from kdlight.storage.audio import audio_info, find_audio, resampled_length, stream_audio
from kdlight.storage.tokens import Tokens, write_tokens
from kdlight.teachers.codec import load_codec


def parser() -> Parser:
    """The options of ``encode``."""
    made = Parser(
        "encode",
        "Audio to tokens: NAME.npz and NAME.json for each file, which decode takes back. Any "
        "format, sample rate and number of channels will do; it is mixed and resampled. What lies "
        "in folders keeps its place. Tokens that are there already are replaced; a file that "
        "cannot be read is left out, and told at the end.",
        "encode --checkpoint runs/codec/version_0/checkpoints/last.ckpt "
        "speech/ more.flac --output tokens/",
    )
    made.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="files or folders")
    made.add_argument("--output", type=Path, required=True, help="folder of the tokens")
    made.add_argument("--checkpoint", "--codec", type=Path, required=True, help=CODEC)
    add_codec(made, "levels; default: all")
    add_blocks(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``encode``."""
    options = parser().parse_args(argv)
    codec = load_codec(str(options.checkpoint), options.model)
    check_levels(codec, options.n_q)
    work = planned(options.inputs, options.output, find_audio, ".npz")
    facts = facts_of(codec, options.checkpoint, options.n_q)
    fold_weight_norm(codec)  # the same weights, computed once
    codec.to(options.device)

    def encode(source: Path, target: Path, told: Told) -> None:
        codes, samples = encoded(
            codec, source, options.n_q, options.block_seconds, options.context, told
        )
        write_tokens(target, Tokens(codes, replace(facts, samples=samples, source=source.name)))

    each_in_turn(work, encode, options.output, "encoding")


def encoded(
    codec: Codec, path: Path, n_q: int | None, block_seconds: int, context: int, told: Told
) -> tuple[Tensor, int]:
    """Codes of a file.

    Args:
        codec: In evaluation mode.
        path: Audio.
        n_q: Levels; all by default.
        block_seconds: A longer file is taken in blocks of this length.
        context: Frames that a block sees on each side, where the codec has no bound.
        told: Called with the share of the file that is read.

    Returns:
        Codes (n_q, F) on the CPU, and the length in samples at the codec's rate.

    Raises:
        InputError: The file is damaged, empty, or holds a NaN.
    """
    rate = codec.sample_rate
    length = resampled_length(audio_info(path), rate)
    where = next(codec.parameters()).device
    samples = 0

    def pieces() -> Iterator[Tensor]:
        nonlocal samples
        for piece in stream_audio(path, rate, block_seconds * rate):
            samples += piece.shape[-1]
            told(samples / length)
            yield piece.to(where)

    if length <= block_seconds * rate:
        codes = codec.encode(torch.cat(list(pieces()), dim=-1)[None], n_q)
    else:
        parts = encode_stream(codec, pieces(), n_q, context)
        codes = torch.cat([part.cpu() for part in parts], dim=-1)
    return codes[0].cpu(), samples
