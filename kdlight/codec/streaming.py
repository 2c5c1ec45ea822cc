"""Codecs on audio that arrives in pieces: live, or from a file too long for the memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from kdlight.codec.codec import Codec
from kdlight.codec.layer_streams import ChainStream
from kdlight.codec.seanet import LayerPaddedCodec, SEANet
from kdlight.errors import InputError

MARGIN = 100
"""Frames on each side of a window where the context of a codec has no bound."""
WINDOW = 500
"""Frames of a window without its margins."""


class StreamingEncoder:
    """Audio in, codes out, for a causal codec: the codes of the whole, however it is cut.

    Latents agree to the rounding of float32, so a code can differ only between two as near.

    Args:
        codec: With a causal SEANet as its encoder.
        n_q: Levels; all by default.

    Raises:
        InputError: The codec looks ahead.
    """

    def __init__(self, codec: Codec, n_q: int | None = None) -> None:
        _require_causal("encoder", codec.encoder)
        self._push = _Encoding(codec, n_q)

    @property
    def latency(self) -> int:
        """Samples until the first code comes out; no later one lags more.

        A frame with zeros as padding. Where layers reflect, they wait for what they reflect, and
        the first frames come late together.
        """
        return self._push.chain.needed(1)

    def push(self, audio: Tensor) -> Tensor:
        """Codes (B, n_q, f) of the frames that audio (B, 1, t) completes, f may be 0."""
        return self._push(audio, end=False)

    def flush(self) -> Tensor:
        """The codes that are left once the audio has ended; nothing can follow."""
        return self._push.finish()


class StreamingDecoder:
    """Codes in, audio out, for a causal codec: the audio of the whole, however it is cut.

    Args:
        codec: With a causal SEANet as its decoder.

    Raises:
        InputError: The codec looks ahead.
    """

    def __init__(self, codec: Codec) -> None:
        _require_causal("decoder", codec.decoder)
        self._push = _Decoding(codec)

    @property
    def latency(self) -> int:
        """Samples of the frames it takes until the first sample comes out; see the encoder's."""
        return self._push.chain.needed(1) * self._push.codec.hop_length

    def push(self, codes: Tensor) -> Tensor:
        """Audio (B, 1, t) of codes (B, n, f), as far as it is settled, t may be 0."""
        return self._push(codes, end=False)

    def flush(self) -> Tensor:
        """The audio that is left once the codes have ended; nothing can follow."""
        return self._push.finish()


class _Encoding:
    """A stream of audio to codes; a SEANet may look ahead."""

    def __init__(self, codec: Codec, n_q: int | None) -> None:
        assert isinstance(codec.encoder, SEANet)
        self.codec, self.n_q = codec, n_q
        self.chain = ChainStream(codec.encoder.layers)
        self.like: Tensor | None = None
        self.length = 0

    @torch.no_grad()
    def __call__(self, audio: Tensor, end: bool) -> Tensor:
        self.like = audio[..., :0]
        self.length += audio.shape[-1]
        latents = self.chain.push(audio, end)
        if latents.shape[-1]:
            return self.codec.quantizer.encode(latents, self.n_q)
        levels = self.codec.n_q if self.n_q is None else self.n_q
        return torch.zeros(len(audio), levels, 0, dtype=torch.int64, device=audio.device)

    def finish(self) -> Tensor:
        if self.like is None:
            raise InputError("audio: expected at least one sample before the end, found none.")
        missing = -self.length % self.codec.hop_length
        silence = 0 if isinstance(self.codec, LayerPaddedCodec) else missing
        return self(self.like.new_zeros(*self.like.shape[:-1], silence), end=True)


class _Decoding:
    """A stream of codes to audio; a SEANet may look ahead."""

    def __init__(self, codec: Codec) -> None:
        assert isinstance(codec.decoder, SEANet)
        self.codec = codec
        self.chain = ChainStream(codec.decoder.layers)
        self.like: Tensor | None = None

    @torch.no_grad()
    def __call__(self, codes: Tensor, end: bool) -> Tensor:
        latents = self.codec.quantizer.decode(codes)
        self.like = latents[..., :0]
        return self.chain.push(latents, end)

    def finish(self) -> Tensor:
        if self.like is None:
            raise InputError("codes: expected at least one frame before the end, found none.")
        with torch.no_grad():
            return self.chain.push(self.like, end=True)


def encode_stream(
    codec: Codec, blocks: Iterable[Tensor], n_q: int | None = None, margin: int = MARGIN
) -> Iterator[Tensor]:
    """Codes of audio that is too long to be held at once.

    Exact where the encoder is a SEANet whose LSTM, if any, runs forwards, causal or not, and where
    it has a bounded ``context``. An LSTM that runs both ways sees ``margin`` frames on each side
    instead of everything: codes may differ where it remembers longer.

    Args:
        codec: In evaluation mode.
        blocks: Pieces (1, t) of the audio, as :func:`~kdlight.storage.audio.stream_audio` yields
            them.
        n_q: Levels; all by default.
        margin: Frames on each side where there is no bound.

    Yields:
        Codes (1, n_q, f) of the next frames, f >= 1.

    Raises:
        InputError: There is no audio.
    """
    if _streams(codec.encoder):
        yield from _piecewise(_Encoding(codec, n_q), (block[None] for block in blocks))
        return

    context = _context(codec.encoder, margin)
    pieces = (block[None] for block in blocks)
    yield from _windows(
        pieces, lambda audio: codec.encode(audio, n_q), codec.hop_length, 1, context
    )


def decode_stream(codec: Codec, blocks: Iterable[Tensor], margin: int = MARGIN) -> Iterator[Tensor]:
    """Audio of codes, in bounded memory; exact where :func:`encode_stream` would be.

    Args:
        codec: In evaluation mode.
        blocks: Pieces (1, n, f) of the codes.
        margin: Frames on each side where the decoder's context has no bound.

    Yields:
        Pieces (1, t) of the audio, t >= 1; hop_length samples for each frame in all.
    """
    if _streams(codec.decoder):
        for piece in _piecewise(_Decoding(codec), blocks):
            yield piece[0]
        return

    context = _context(codec.decoder, margin)
    for piece in _windows(blocks, codec.decode, 1, codec.hop_length, context):
        yield piece[0]


def _piecewise(stream: _Encoding | _Decoding, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    for piece in pieces:
        output = stream(piece, end=False)
        if output.shape[-1]:
            yield output
    output = stream.finish()
    if output.shape[-1]:
        yield output


def _windows(
    pieces: Iterable[Tensor],
    run: Callable[[Tensor], Tensor],
    frame_in: int,
    frame_out: int,
    context: int,
) -> Iterator[Tensor]:
    """What ``run`` gives on windows of whole frames, without the frames of their margins.

    Args:
        pieces: (1, C, t).
        run: Of a window.
        frame_in: Length of a frame in ``pieces``.
        frame_out: Length of a frame in what ``run`` gives.
        context: Frames of margin on each side.
    """
    held: Tensor | None = None
    before = 0  # frames of `held` that were given already
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=-1)
        while held.shape[-1] >= (before + WINDOW + context) * frame_in:
            window = held[..., : (before + WINDOW + context) * frame_in]
            yield run(window)[..., before * frame_out : (before + WINDOW) * frame_out]
            used = max(0, before + WINDOW - context)
            held = held[..., used * frame_in :]
            before += WINDOW - used
    if held is None or not held.shape[-1]:
        raise InputError("expected audio or codes, found none.")
    output = run(held)[..., before * frame_out :]
    if output.shape[-1]:
        yield output


def _streams(part: nn.Module) -> bool:
    """Whether a part can be run piece by piece exactly."""
    return isinstance(part, SEANet) and part.forward_only


def _context(part: nn.Module, margin: int) -> int:
    """Frames on each side that a part has to see."""
    known: int | None = getattr(part, "context", None)
    return margin if known is None else known


def _require_causal(name: str, part: nn.Module) -> None:
    if not (isinstance(part, SEANet) and part.causal):
        raise InputError(
            f"{name}: expected a causal SEANet to stream, found a {type(part).__name__} that "
            "depends on later samples: encode_stream and decode_stream take it in pieces."
        )
