"""Files of tokens: the codes of one utterance and what is needed to make audio of them again.

``NAME.npz`` holds ``codes`` (n_q, F), ``uint16`` where the codebook allows it and ``int32`` else,
and ``scales`` where the codec of pieces divides by them;
``NAME.json`` beside it holds :class:`TokenFacts` and the hash of the first. Whatever cannot be
decoded as it was encoded is refused: a pair of files of two runs, codes that are cut or changed,
the tokens of another codec.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlight.core.hints import called
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import read_json, require_file, sha256_of, write_json

FORMAT = "kdlight-tokens-1"
SMALL = 1 << 16
"""Codebooks up to this size fit 16 bits."""


@dataclass(frozen=True)
class TokenFacts:
    """What a token file says about its codes.

    Attributes:
        sample_rate: Of the audio, samples per second.
        hop_length: Samples of a frame.
        frame_rate: Frames per second.
        codebook_size: Codes of a level; codes run from 0 to one below it.
        n_q: Levels in this file, maybe fewer than the codec has.
        samples: Length of the audio at ``sample_rate``; decoded audio is cut to it.
        codec: Name of the codec's file or folder.
        codec_sha256: Hash of that file; of the weights for a folder.
        codec_digest: Hash of the codec's weights, which an export does not change.
        source: Name of the audio file, without its folder.
        piece_samples: Samples from piece to piece, of a codec of overlapping pieces; else 0.
        piece_frames: Frames of a piece; else 0.
        channels: Of the audio as it was coded, which decoding gives back.
    """

    sample_rate: int
    hop_length: int
    frame_rate: float
    codebook_size: int
    n_q: int
    samples: int
    codec: str
    codec_sha256: str
    codec_digest: str
    source: str
    piece_samples: int = 0
    piece_frames: int = 0
    channels: int = 1

    @property
    def frames(self) -> int:
        """Frames of the audio, the last of them filled up.

        Of a codec of pieces: of all pieces, and once more those that a next piece would share.
        """
        if self.piece_samples:
            shared = self.piece_frames * self.hop_length - self.piece_samples
            pieces = -(-self.samples // self.piece_samples)
            return pieces * self.piece_frames - (-shared // self.hop_length)
        return -(-self.samples // self.hop_length)


@dataclass(frozen=True)
class Tokens:
    """The contents of a token file.

    Attributes:
        codes: (n_q, F) int64.
        facts: What is said about them.
        scales: What each piece was divided by, (pieces,) float32; None where nothing was.
    """

    codes: Tensor
    facts: TokenFacts
    scales: Tensor | None = None


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """Hash of a state dict, in hexadecimal: of what is stored, not of what is computed from it."""
    total = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def write_tokens(path: Path, tokens: Tokens) -> None:
    """Write ``path`` (``.npz``), then its description beside it; each is whole or not there.

    Raises:
        InputError: The name ends in something else, the codes do not fit what is said of them, or
            the description would replace a JSON file that is none.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: expected a name that ends in .npz.")
    _check(path, tokens.codes, tokens.facts)
    beside = path.with_suffix(".json")
    if beside.exists() and not _says_format(beside):
        raise InputError(f"{beside}: expected a free name or a description of tokens to replace.")
    kind = np.uint16 if tokens.facts.codebook_size <= SMALL else np.int32
    # An open file, because numpy would add a suffix of its own to a name.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        codes = tokens.codes.cpu().numpy().astype(kind)
        if tokens.scales is None:
            np.savez_compressed(stream, codes=codes)
        else:
            np.savez_compressed(stream, codes=codes, scales=tokens.scales.float().cpu().numpy())
    description = {"format": FORMAT, "codes_sha256": sha256_of(path), **asdict(tokens.facts)}
    write_json(beside, description)


def is_described(path: Path) -> bool:
    """Whether a description of tokens lies beside a file: they are kdlight's."""
    beside = path.with_suffix(".json")
    return path.suffix == ".npz" and beside.is_file() and _says_format(beside)


def _says_format(path: Path) -> bool:
    return FORMAT in path.read_text(encoding="utf-8", errors="replace")


def read_tokens(path: Path) -> Tokens:
    """Read what :func:`write_tokens` wrote.

    Args:
        path: The ``.npz``.

    Raises:
        InputError: A file is missing, damaged or foreign, or the two do not belong together.
    """
    require_file(path)
    beside = path.with_suffix(".json")
    description = read_json(beside)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else description
        raise InputError(f"{beside}: format: expected {FORMAT}, found {_short(found)}.")
    facts = _facts(beside, description)
    if sha256_of(path) != description.get("codes_sha256"):
        raise InputError(f"{path}: damaged, or not the codes that {beside.name} describes.")
    codes, scales = _arrays(path)
    _check(path, codes, facts)
    return Tokens(codes, facts, scales)


def check_codec(path: Path, tokens: TokenFacts, codec: TokenFacts) -> None:
    """Refuse tokens of another codec.

    Args:
        path: Their file, for the complaint.
        tokens: What it says.
        codec: What it would say if the codec at hand had written it.

    Raises:
        InputError: The weights differ, or the numbers that say what codes mean.
    """
    names = ("sample_rate", "hop_length", "codebook_size", "piece_samples", "piece_frames")
    for name in names:
        expected, found = getattr(codec, name), getattr(tokens, name)
        if found != expected:
            raise InputError(f"{path}: {name}: expected {expected} of the codec, found {found}.")
    if tokens.channels not in (1, codec.channels):
        raise InputError(
            f"{path}: channels: expected 1 or the {codec.channels} of the codec, "
            f"found {tokens.channels}."
        )
    if tokens.n_q > codec.n_q:
        raise InputError(f"{path}: n_q: expected at most {codec.n_q}, found {tokens.n_q}.")
    if tokens.codec_digest != codec.codec_digest:
        raise InputError(
            f"{path}: expected tokens of {codec.codec} (weights {codec.codec_digest[:12]}), "
            f"found those of {tokens.codec} (weights {tokens.codec_digest[:12]})."
        )


def _arrays(path: Path) -> tuple[Tensor, Tensor | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array = archive["codes"]
            scales = archive["scales"].astype(np.float32) if "scales" in archive else None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"{path}: expected an .npz with codes, found something else.") from None
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"{path}: expected whole numbers (n_q, F), found {array.dtype} {array.shape}."
        )
    codes = torch.from_numpy(array.astype(np.int64))
    return codes, None if scales is None else torch.from_numpy(scales)


def _facts(path: Path, description: dict[str, Any]) -> TokenFacts:
    values: dict[str, Any] = {}
    for field in fields(TokenFacts):
        # What files of 0.1.0 do not have has a default.
        value: Any = description.get(field.name, field.default)
        least = 0 if field.default == 0 else 1
        if field.type is str:
            expected, fits = "text", isinstance(value, str)
        elif field.type is int:
            expected, fits = f"a whole number from {least}", type(value) is int and value >= least
        else:
            expected, fits = "a number above 0", type(value) in (int, float) and value > 0
        if not fits:
            raise InputError(f"{path}: {field.name}: expected {expected}, found {_short(value)}.")
        values[field.name] = value
    return TokenFacts(**values)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else called(value)


def _check(path: Path, codes: Tensor, facts: TokenFacts) -> None:
    expected = (facts.n_q, facts.frames)
    if tuple(codes.shape) != expected:
        raise InputError(
            f"{path}: expected codes {expected} for {facts.samples} samples, "
            f"found {tuple(codes.shape)}."
        )
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= facts.codebook_size:
        raise InputError(
            f"{path}: expected codes from 0 to {facts.codebook_size - 1}, found {low} to {high}."
        )
