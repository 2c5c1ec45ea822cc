"""Options of the verbs that code audio."""

import argparse

from kdlight.codec.codec import Codec
from kdlight.codec.streaming import MARGIN
from kdlight.commands.parsing.arguments import add_device, positive
from kdlight.errors import InputError

BLOCK_SECONDS = 60
CODEC = (
    "the codec: a checkpoint or .safetensors of kdlight (also what convert wrote), a folder of "
    "transformers (EnCodec, DAC, Mimi, X-Codec) or its id on the Hugging Face hub"
)


def add_codec_model(to: argparse.ArgumentParser) -> None:
    """The option ``--model`` of the verbs that take a codec."""
    to.add_argument(
        "--model",
        default=None,
        help="name of the codec, where a checkpoint holds several; another name is answered with "
        "those that it holds (default: the first)",
    )


def add_codec(to: argparse.ArgumentParser, levels: str) -> None:
    """The options that choose a model of the codec's file, its levels and its device."""
    add_codec_model(to)
    to.add_argument("--n-q", type=positive, default=None, help=levels)
    add_device(to)


def add_blocks(to: argparse.ArgumentParser) -> None:
    """The options for files too long to be taken at once."""
    to.add_argument(
        "--block-seconds",
        type=positive,
        default=BLOCK_SECONDS,
        help="a longer file is taken in blocks of so many seconds, in bounded memory: exact, "
        f"unless the codec has an LSTM that runs both ways (default {BLOCK_SECONDS})",
    )
    to.add_argument(
        "--context",
        type=positive,
        default=MARGIN,
        help="frames that a block sees on each side where the codec has no bound of its own "
        f"(default {MARGIN})",
    )


def check_levels(codec: Codec, n_q: int | None) -> None:
    """Refuse more levels than a codec has.

    Raises:
        InputError: ``n_q`` are more.
    """
    if n_q is not None and n_q > codec.n_q:
        raise InputError(f"--n-q: expected at most {codec.n_q} levels, found {n_q}.")
