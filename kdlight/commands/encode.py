"""``encode``: audio files to token files."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdlight.codec.codec import Codec, facts_of
from kdlight.codec.convolution import fold_weight_norm
from kdlight.codec.streaming import encode_stream
from kdlight.commands.encode_syllables import run_segments
from kdlight.commands.parsing.arguments import Parser, positive, refuse_idle
from kdlight.commands.shared.batches import BatchedEncoder, Coded
from kdlight.commands.shared.codecs import CODEC, add_blocks, add_codec, check_levels
from kdlight.commands.shared.trees import Told, each_in_turn, files_of, planned
from kdlight.errors import InputError
from kdlight.storage.audio import find_audio, resampled_length
from kdlight.storage.segments import Segment, is_manifest, read_segments
from kdlight.storage.tokens import Tokens, write_tokens
from kdlight.teachers.codec import BUNDLED, load_codec


def parser() -> Parser:
    """The options of ``encode``."""
    made = Parser(
        "encode",
        "Audio to tokens: NAME.npz and NAME.json for each file, which decode takes back. Any "
        "format, sample rate and number of channels will do; it is resampled, and mixed unless the "
        "codec is one of as many channels (EnCodec at 48 kHz). What lies in folders keeps its "
        "place. A manifest (.csv, .tsv or .jsonl) names parts of files: audio, and if wanted start "
        "and end in seconds, and id. Tokens that are there already are replaced; a file that "
        "cannot be read is left out, and told at the end.",
        "encode speech/ more.flac --output tokens/\n"
        "  python -m kdlight encode --codec models/mimi segments.jsonl --batch-size 16 "
        "--device cuda --output tokens/",
    )
    made.add_argument(
        "inputs", type=Path, nargs="+", metavar="INPUT", help="files, folders or manifests"
    )
    made.add_argument("--output", type=Path, required=True, help="folder of the tokens")
    made.add_argument(
        "--checkpoint",
        "--codec",
        type=Path,
        default=BUNDLED,
        help=f"{CODEC} (default: the bundled one, for speech)",
    )
    add_codec(made, "levels; default: all")
    made.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        help="so many at once: those that the codec brings to one length (as many frames, or as "
        "many samples where its layers fill up the last frame), whose codes stay what they are "
        "alone, but where rounding decides between two as near",
    )
    made.add_argument(
        "--segments",
        action="store_true",
        help="of an encoder of syllables (SyllableDistillation): NAME.jsonl with start, end and "
        "unit of each, and NAME.npz with times, units and embeddings",
    )
    add_blocks(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``encode``."""
    known = parser()
    options = known.parse_args(argv)
    if options.segments:
        if options.checkpoint == BUNDLED:
            raise InputError("--segments: expected --checkpoint of an encoder of syllables.")
        of_codecs = ("n_q", "batch_size", "block_seconds", "context")
        refuse_idle(known.typed(argv), of_codecs, "tokens of a codec to write", "--segments")
        run_segments(options, listed)
        return
    codec = load_codec(str(options.checkpoint), options.model)
    check_levels(codec, options.n_q)
    work = planned(options.inputs, options.output, listed, ".npz")
    facts = facts_of(codec, options.checkpoint, options.n_q)
    fold_weight_norm(codec)  # the same weights, computed once
    codec.to(options.device)
    segments = [segment for segment, _ in work]
    encoder = BatchedEncoder(codec, segments, options.n_q, options.batch_size)
    longest = options.block_seconds * codec.sample_rate

    def encode(segment: Segment, target: Path, told: Told) -> None:
        # Pieces are of bounded length whatever the file's.
        at_once = encoder.lengths[segment] <= longest or codec.piece_samples
        found = encoder(segment) if at_once else encoded(codec, segment, options, told)
        known = replace(
            facts,
            samples=found.samples,
            source=segment.path.name,
            channels=found.channels,
        )
        write_tokens(target, Tokens(found.codes, known, found.scales))

    work.sort(key=lambda item: encoder.lengths[item[0]])
    each_in_turn(work, encode, options.output, "encoding")


def listed(path: Path) -> list[tuple[Segment, Path]]:
    """What an input stands for: a file, all audio of a folder, or the rows of a manifest.

    Raises:
        InputError: As :func:`~kdlight.storage.segments.read_segments` and ``files_of``.
    """
    if is_manifest(path):
        # A suffix, so that a dot in a name is no suffix.
        return [(each.segment, Path(f"{each.name}.segment")) for each in read_segments(path)]
    return [(Segment(file), place) for file, place in files_of(path, find_audio)]


def encoded(codec: Codec, segment: Segment, options: argparse.Namespace, told: Told) -> Coded:
    """Codes of a segment that is too long to be coded at once.

    Args:
        codec: In evaluation mode.
        segment: Where the audio is.
        options: ``block_seconds``, ``context`` and ``n_q``.
        told: Called with the share of the segment that is read.

    Raises:
        InputError: The file is damaged, or holds a NaN.
    """
    rate = codec.sample_rate
    length = resampled_length(segment.info(), rate)
    where = next(codec.parameters()).device
    samples = 0

    def pieces() -> Iterator[Tensor]:
        nonlocal samples
        for piece in segment.stream(rate, options.block_seconds * rate):
            samples += piece.shape[-1]
            told(samples / length)
            yield piece.to(where)

    parts = encode_stream(codec, pieces(), options.n_q, options.context)
    return Coded(torch.cat([part.cpu() for part in parts], dim=-1)[0], samples, None)
