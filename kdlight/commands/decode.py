"""``decode``: token files to audio."""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from kdlight.codec.codec import Codec, facts_of
from kdlight.codec.convolution import fold_weight_norm
from kdlight.codec.streaming import decode_stream
from kdlight.commands.parsing.arguments import Parser, add_force
from kdlight.commands.shared.codecs import CODEC, add_blocks, add_codec, check_levels
from kdlight.commands.shared.trees import Told, each_in_turn, files_of, planned
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.codes import SUFFIXES, checked, read_codes
from kdlight.storage.folders import files_below
from kdlight.storage.tokens import TokenFacts, check_codec, is_described, read_tokens
from kdlight.teachers.codec import BUNDLED, load_codec

FORMATS = ("wav", "flac")


def parser() -> Parser:
    """The options of ``decode``."""
    made = Parser(
        "decode",
        "Tokens to audio: NAME.wav of 16 bits for each NAME.npz that encode wrote, as long as "
        "its original. What lies in folders keeps its place. Audio of that name that is there "
        "already is replaced; tokens that cannot be decoded are left out, and told at the end. "
        "With --codec also codes (levels, frames) that any other program made, such as a language "
        "model: .npy, .npz, .pt, or a .jsonl with an utterance a line.",
        "decode tokens/ --n-q 4 --output decoded/\n"
        "  python -m kdlight decode --codec models/mimi generated.jsonl --output decoded/",
    )
    made.add_argument("tokens", type=Path, nargs="+", metavar="TOKENS", help="files or folders")
    made.add_argument("--output", type=Path, required=True, help="folder of the audio")
    made.add_argument("--format", choices=FORMATS, default="wav", help="of the audio, default wav")
    named = made.add_mutually_exclusive_group()
    named.add_argument(
        "--checkpoint",
        type=Path,
        help=f"{CODEC}; decodes its own tokens alone (default: the bundled one)",
    )
    named.add_argument(
        "--codec",
        type=Path,
        help="as --checkpoint, and decodes codes that do not say whose they are",
    )
    add_codec(made, "first levels; default: all that there are")
    add_blocks(made)
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``decode``."""
    options = parser().parse_args(argv)
    named = options.checkpoint or options.codec or BUNDLED
    codec = load_codec(str(named), options.model)
    check_levels(codec, options.n_q)
    find = find_tokens if options.codec is None else find_codes
    listed = partial(files_of, find=find)
    work = planned(options.tokens, options.output, listed, f".{options.format}")
    own = facts_of(codec, named)
    fold_weight_norm(codec)  # the same weights, computed once
    codec.to(options.device)

    def decode(source: Path, target: Path, told: Told) -> None:
        if options.codec is None or is_described(source):
            decode_own(codec, own, source, target, options, told)
        else:
            decode_foreign(codec, source, target, options, told)

    each_in_turn(work, decode, options.output, "decoding")


def decode_own(
    codec: Codec,
    own: TokenFacts,
    source: Path,
    target: Path,
    options: argparse.Namespace,
    told: Told,
) -> None:
    """Write the audio of tokens that kdlight wrote.

    Raises:
        InputError: They are damaged or another codec's, or are made of the audio to be written.
    """
    tokens = read_tokens(source)
    facts = tokens.facts
    check_codec(source, facts, own)
    if not options.force and _is_original(target, source, facts.source):
        raise InputError(
            f"{target}: expected a free name, found the audio that {source.name} was made of; "
            "--force replaces it."
        )
    codes = first_levels(tokens.codes, options.n_q, str(source))
    if facts.channels > 1:
        pieces: Iterable[Tensor] = [_all_channels(codec, codes, tokens.scales)]
    else:
        pieces = decoded(codec, codes, options.block_seconds, options.context, tokens.scales)
    write_pieces(target, pieces, codec.sample_rate, facts.samples, told, facts.channels)


def decode_foreign(
    codec: Codec, source: Path, target: Path, options: argparse.Namespace, told: Told
) -> None:
    """Write the audio of codes that any program wrote, for all utterances of a file.

    Raises:
        InputError: One of them is no codes of this codec; nothing is written then.
    """
    codec.require_whole(f"{source}: codes without the scales of pieces")
    size, found = codec.codebook_size, []
    for name, codes, place in read_codes(source):
        whole = checked(codes, codec.n_q, size, place)
        found.append((name, first_levels(whole, options.n_q, place)))
    for index, (name, codes) in enumerate(found, start=1):
        pieces = decoded(codec, codes, options.block_seconds, options.context)
        path = target.parent / f"{name}{target.suffix}"
        samples = codes.shape[1] * codec.hop_length
        write_pieces(path, pieces, codec.sample_rate, samples, lambda _: None)
        told(index / len(found))


def first_levels(codes: Tensor, n_q: int | None, place: str) -> Tensor:
    """The first ``n_q`` levels of codes (n, F); all if None.

    Raises:
        InputError: There are fewer.
    """
    if n_q is not None and n_q > len(codes):
        raise InputError(
            f"{place}: expected at least the {n_q} levels of --n-q, found {len(codes)}."
        )
    return codes[:n_q]


def _is_original(target: Path, tokens: Path, source: str) -> bool:
    """Whether a file has the name of the tokens' audio, and was there before the tokens."""
    if target.name != source or not target.is_file():
        return False
    return target.stat().st_mtime_ns <= tokens.stat().st_mtime_ns


def find_tokens(folder: Path) -> list[Path]:
    """All ``.npz`` files below a folder, sorted; hidden ones are left out.

    Raises:
        InputError: There is none.
    """
    found = files_below(folder, (".npz",))
    if not found:
        raise InputError(f"{folder}: expected token files (.npz), found none.")
    return found


def find_codes(folder: Path) -> list[Path]:
    """All files of codes below a folder, sorted: those of kdlight and of other programs.

    Raises:
        InputError: There is none.
    """
    found = files_below(folder, SUFFIXES)
    if not found:
        raise InputError(f"{folder}: expected codes ({', '.join(SUFFIXES)}), found none.")
    return found


def decoded(
    codec: Codec,
    codes: Tensor,
    block_seconds: int,
    context: int,
    scales: Tensor | None = None,
) -> Iterable[Tensor]:
    """Audio (1, t) of codes (n, F) piece by piece; in one if it is no longer than a block."""
    where = next(codec.parameters()).device
    codes = codes[None].to(where)
    block = max(1, round(block_seconds * codec.frame_rate))
    if codes.shape[-1] <= block or codec.piece_samples:
        return [codec.decode(codes, None if scales is None else scales[None].to(where))[0]]
    return decode_stream(codec, torch.split(codes, block, dim=-1), context)


def _all_channels(codec: Codec, codes: Tensor, scales: Tensor | None) -> Tensor:
    """Audio (channels, T) of codes (n, F) that were made of as many channels as the codec has."""
    where = next(codec.parameters()).device
    divided = None if scales is None else scales[None].to(where)
    return codec.decode_channels(codes[None].to(where), divided)[0]


def write_pieces(
    path: Path,
    pieces: Iterable[Tensor],
    sample_rate: int,
    samples: int,
    told: Told,
    channels: int = 1,
) -> None:
    """Write audio (channels, t) piece by piece with 16 bits, cut to ``samples``, or nothing.

    Args:
        path: Ends in ``.wav`` or ``.flac``.
        pieces: In order.
        sample_rate: Samples per second.
        samples: Length of the file.
        told: Called with the share of the file that is written.
        channels: Of the file.

    Raises:
        InputError: A sample is no number, as from a codec that was trained to nothing.
    """
    kind = path.suffix.removeprefix(".").upper()
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, channels, "PCM_16", format=kind) as file,
    ):
        left = samples
        for piece in pieces:
            audio = piece[:, :left].T.detach().float().cpu()
            if not audio.isfinite().all():
                raise InputError(f"{path}: expected finite audio of the codec, found a NaN.")
            file.write(audio.clamp(-1, 1).numpy())
            left -= len(audio)
            told(1 - left / samples)
