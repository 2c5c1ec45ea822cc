"""``decode``: token files to audio."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from kdlight.codec.codec import Codec, facts_of
from kdlight.codec.convolution import fold_weight_norm
from kdlight.codec.streaming import decode_stream
from kdlight.commands.parsing.arguments import Parser, add_force
from kdlight.commands.shared.codecs import add_blocks, add_codec, check_levels
from kdlight.commands.shared.trees import Told, each_in_turn, planned
from kdlight.errors import InputError
from kdlight.storage.files import atomic_path
from kdlight.storage.tokens import Tokens, check_codec, read_tokens
from kdlight.teachers.codec import load_codec

FORMATS = ("wav", "flac")


def parser() -> Parser:
    """The options of ``decode``."""
    made = Parser(
        "decode",
        "Tokens to audio: NAME.wav of 16 bits for each NAME.npz that encode wrote, as long as "
        "its original. What lies in folders keeps its place. Audio of that name that is there "
        "already is replaced; tokens that cannot be decoded are left out, and told at the end.",
        "decode --checkpoint runs/codec/version_0/checkpoints/last.ckpt "
        "tokens/ --n-q 4 --output decoded/",
    )
    made.add_argument("tokens", type=Path, nargs="+", metavar="TOKENS", help=".npz or folders")
    made.add_argument("--output", type=Path, required=True, help="folder of the audio")
    made.add_argument("--format", choices=FORMATS, default="wav", help="of the audio, default wav")
    add_codec(made, "first levels; default: all that there are")
    add_blocks(made)
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``decode``."""
    options = parser().parse_args(argv)
    codec = load_codec(str(options.checkpoint), options.model)
    check_levels(codec, options.n_q)
    work = planned(options.tokens, options.output, find_tokens, f".{options.format}")
    own = facts_of(codec, options.checkpoint)
    fold_weight_norm(codec)  # the same weights, computed once
    codec.to(options.device)

    def decode(source: Path, target: Path, told: Told) -> None:
        tokens = read_tokens(source)
        facts = tokens.facts
        check_codec(source, facts, own)
        if options.n_q is not None and options.n_q > facts.n_q:
            raise InputError(
                f"{source}: expected at least the {options.n_q} levels of --n-q, found {facts.n_q}."
            )
        if not options.force and _is_original(target, source, facts.source):
            raise InputError(
                f"{target}: expected a free name, found the audio that {source.name} was made of; "
                "--force replaces it."
            )
        pieces = decoded(codec, tokens, options.n_q, options.block_seconds, options.context)
        write_pieces(target, pieces, codec.sample_rate, facts.samples, told)

    each_in_turn(work, decode, options.output, "decoding")


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
    found = sorted(path for path in folder.rglob("*.npz") if not path.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: expected token files (.npz), found none.")
    return found


def decoded(
    codec: Codec, tokens: Tokens, n_q: int | None, block_seconds: int, context: int
) -> Iterable[Tensor]:
    """Audio (1, t) piece by piece; in one piece if it is no longer than a block."""
    where = next(codec.parameters()).device
    codes = tokens.codes[None, :n_q].to(where)
    block = max(1, round(block_seconds * codec.frame_rate))
    if codes.shape[-1] <= block:
        return [codec.decode(codes)[0]]
    return decode_stream(codec, torch.split(codes, block, dim=-1), context)


def write_pieces(
    path: Path, pieces: Iterable[Tensor], sample_rate: int, samples: int, told: Told
) -> None:
    """Write audio (1, t) piece by piece with 16 bits, cut to ``samples``, whole or not at all.

    Args:
        path: Ends in ``.wav`` or ``.flac``.
        pieces: In order.
        sample_rate: Samples per second.
        samples: Length of the file.
        told: Called with the share of the file that is written.

    Raises:
        InputError: A sample is no number, as from a codec that was trained to nothing.
    """
    kind = path.suffix.removeprefix(".").upper()
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, "PCM_16", format=kind) as file,
    ):
        left = samples
        for piece in pieces:
            audio = piece[0, :left].detach().float().cpu()
            if not audio.isfinite().all():
                raise InputError(f"{path}: expected finite audio of the codec, found a NaN.")
            file.write(audio.clamp(-1, 1).numpy())
            left -= len(audio)
            told(1 - left / samples)
