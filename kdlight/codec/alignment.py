"""Text to frames: which state of a language model a frame of a codec is compared with.

A language model has one state a token and knows no time; a codec has one vector a frame. Every
function here lays states (B, L, D) out over frames and returns features (B, F, D) with the mask
(B, F) of the frames that have one. Nothing is ever regressed onto padding: a token that ``tokens``
leaves out reaches no frame, and a frame beyond the utterance has no token.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import forced_align, merge_tokens

from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError


class Aligned(NamedTuple):
    """Features for the frames of a codec.

    Attributes:
        features: (B, F, D); zero where the mask is off.
        mask: Frames that have a feature, (B, F), bool.
    """

    features: Tensor
    mask: Tensor


class TimedWord(NamedTuple):
    """A word and when it was said.

    Attributes:
        text: The word, without blanks.
        start: Begin in seconds.
        end: End in seconds, not before ``start``.
    """

    text: str
    start: float
    end: float


def _check(states: Tensor, tokens: Tensor, frames: Tensor) -> None:
    if states.ndim != 3 or tokens.shape != states.shape[:2] or frames.shape != states.shape[:1]:
        raise InputError(
            "states, tokens and frames: expected (B, L, D), (B, L) and (B,), found "
            f"{tuple(states.shape)}, {tuple(tokens.shape)} and {tuple(frames.shape)}."
        )


def _spread(states: Tensor, weights: Tensor) -> Aligned:
    """Weighted means of states: (B, L, D) and weights (B, F, L) of any sum."""
    total = weights.sum(dim=2, keepdim=True)
    shares = weights / torch.where(total > 0, total, 1.0)
    # A state without a share may be a NaN, and 0 times NaN is one.
    used = torch.where((weights > 0).any(dim=1)[..., None], states, torch.zeros_like(states))
    return Aligned(shares.to(states.dtype) @ used, total[..., 0] > 0)


def _packed(tokens: Tensor) -> Tensor:
    """Rank of each token among those of its row that count, (B, L)."""
    return tokens.long().cumsum(dim=1) - 1


def index_alignment(states: Tensor, tokens: Tensor, frames: Tensor, n_frames: int) -> Aligned:
    """Token i on frame i, and nothing on the rest, as in DM-Codec's released code.

    Kept for comparison. A token lasts some 0.25 s and a frame 0.02 s, so the whole text falls on
    the first tenth of the cut. The release also compares the remaining frames with the states of
    padding tokens; here they are masked.

    Args:
        states: (B, L, D).
        tokens: Tokens that count, (B, L); the release counts the special ones too.
        frames: Frames of each utterance, (B,).
        n_frames: F, frames to return.
    """
    _check(states, tokens, frames)
    time = torch.arange(n_frames, device=states.device)
    hit = (_packed(tokens)[:, None, :] == time[:, None]) & tokens.bool()[:, None, :]
    return _spread(states, (hit & (time < frames[:, None])[..., None]).double())


def uniform_alignment(states: Tensor, tokens: Tensor, frames: Tensor, n_frames: int) -> Aligned:
    """Tokens spread evenly over the utterance; a frame that several share has their mean.

    Args:
        states: (B, L, D).
        tokens: Tokens that count, (B, L).
        frames: Frames of each utterance, (B,).
        n_frames: F, frames to return.
    """
    _check(states, tokens, frames)
    # With f frames and n tokens, frame t is [t n, (t+1) n) and token i is [i f, (i+1) f).
    count = tokens.sum(dim=1)[:, None, None]
    length = frames[:, None, None]
    time = torch.arange(n_frames, device=states.device)[None, :, None]
    rank = _packed(tokens)[:, None, :]
    high = torch.minimum((time + 1) * count, (rank + 1) * length)
    low = torch.maximum(time * count, rank * length)
    counts = tokens.bool()[:, None, :] & (time < length)
    return _spread(states, ((high - low).clamp(min=0) * counts).double())


def timed_alignment(
    states: Tensor, times: Tensor, tokens: Tensor, frames: Tensor, n_frames: int, grid: FrameGrid
) -> Aligned:
    """Each token on the frames in which it was said: ``ctc`` and ``asr``, by whose times they are.

    A frame's feature is the mean of the tokens it overlaps, weighted by common time. Pauses have
    none and are masked.

    Args:
        states: (B, L, D).
        times: Begin and end of every token in seconds, (B, L, 2); see :func:`token_times`.
        tokens: Tokens that count, (B, L); NaN times count as "not said".
        frames: Frames of each utterance, (B,).
        n_frames: F, frames to return.
        grid: Grid of the codec.

    Raises:
        InputError: A shape is another.
    """
    _check(states, tokens, frames)
    if times.shape != (*tokens.shape, 2):
        raise InputError(f"times: expected {(*tokens.shape, 2)}, found {tuple(times.shape)}.")
    times = times.to(states.device, torch.float64)
    said = tokens.bool() & times.isfinite().all(dim=2)
    begin, end = torch.where(said[..., None], times, 0.0).unbind(dim=2)
    time = torch.arange(n_frames, device=states.device)
    edges = (grid.start + time * grid.hop_length).double() / grid.sample_rate
    hop = grid.hop_length / grid.sample_rate
    high = torch.minimum((edges + hop)[None, :, None], end[:, None, :])
    low = torch.maximum(edges[None, :, None], begin[:, None, :])
    counts = said[:, None, :] & (time < frames[:, None])[..., None]
    # Rounding of the edges must not make two neighbours of a word that ends at an edge.
    overlap = torch.where(high - low > 1e-9, high - low, 0.0)
    return _spread(states, overlap * counts)


def window_alignment(
    states: Tensor,
    tokens: Tensor,
    frames: Tensor,
    speech: Tensor,
    window: int = 8,
    first: Tensor | None = None,
) -> Aligned:
    """Each token from the frame near its even place that is most like it (after FuseCodec).

    The temporally aligned supervision of arXiv:2509.11425 as its text describes it: token i looks
    for the frame of highest cosine within ``window`` frames of where :func:`uniform_alignment`
    puts it. How frames between two matches are filled is our choice: a match never precedes that
    of the token before, and a token reaches up to the next match. Frames before the first match
    belong to the first token.

    Args:
        states: (B, L, D).
        tokens: Tokens that count, (B, L).
        frames: Frames of each utterance, (B,).
        speech: The codec's frames in the space of the states, (B, F, D); no gradient passes.
        window: Frames to look at on each side; 0 keeps the even places.
        first: Frame of the utterance with which ``speech`` begins, (B,), where it is a crop.

    Raises:
        InputError: A shape is another, or the window is negative.
    """
    _check(states, tokens, frames)
    if speech.ndim != 3 or speech.shape[::2] != states.shape[::2]:
        raise InputError(
            f"speech: expected ({states.shape[0]}, F, {states.shape[2]}), "
            f"found {tuple(speech.shape)}."
        )
    if window < 0:
        raise InputError(f"window: expected 0 or more frames, found {window}.")
    tokens, rank = tokens.bool(), _packed(tokens)
    time = torch.arange(speech.shape[1], device=states.device)
    count = tokens.sum(dim=1, keepdim=True).clamp(min=1)
    place = ((2 * rank + 1) * frames[:, None]) // (2 * count)
    if first is not None:
        place, frames = place - first[:, None], frames - first
    real = time < frames[:, None]
    near = (time - place[..., None]).abs() <= window
    with torch.no_grad():
        scores = F.normalize(states.detach(), dim=2) @ F.normalize(speech, dim=2).transpose(1, 2)
    allowed = near & real[:, None]
    scores = scores.masked_fill(~allowed, -torch.inf)
    found = tokens & allowed.any(dim=2)
    # What was said before the crop lasts until the first match in it.
    tokens = found | (tokens & (place + window < 0))
    rank = _packed(tokens)
    match = torch.where(found, scores.argmax(dim=2), -1).cummax(dim=1).values
    # The owner of a frame is the last token whose match lies at or before it.
    begun = (match[..., None] <= time) & tokens[..., None]
    owner = torch.where(begun, rank[..., None], 0).amax(dim=1)
    hit = (rank[:, None, :] == owner[..., None]) & tokens[:, None, :] & real[..., None]
    return _spread(states, hit.double())


def broadcast_alignment(vector: Tensor, frames: Tensor, n_frames: int) -> Aligned:
    """One vector on every frame (``cls``): a sentence's, or a mean over time.

    Args:
        vector: (B, D).
        frames: Frames of each utterance, (B,).
        n_frames: F, frames to return.
    """
    mask = torch.arange(n_frames, device=vector.device) < frames[:, None]
    features = vector[:, None].expand(-1, n_frames, -1)
    return Aligned(torch.where(mask[..., None], features, torch.zeros_like(features)), mask)


def joined_text(words: Sequence[TimedWord]) -> str:
    """The text of timed words, a blank between two, as :func:`token_times` takes it."""
    return " ".join(word.text for word in words)


def words_within(words: Sequence[TimedWord], begin: float, end: float) -> list[TimedWord]:
    """The words whose middle lies in [begin, end), seconds, timed as they were."""
    return [word for word in words if begin <= (word.start + word.end) / 2 < end]


def token_times(words: Sequence[TimedWord], offsets: Tensor) -> Tensor:
    """When each token of :func:`joined_text` was said.

    A token has the part of its word's time that it has of its characters; one that spans several
    words lasts from the first to the last.

    Args:
        words: In order.
        offsets: First character and one past the last of every token in the joined text, (L, 2);
            equal for tokens that are no text.

    Returns:
        Begin and end in seconds, (L, 2), float64; NaN for tokens that are no text.

    Raises:
        InputError: A token lies beyond the text.
    """
    text = joined_text(words)
    if offsets.numel() and int(offsets.max()) > len(text):
        raise InputError(
            f"offsets: expected at most {len(text)}, the text's length, found {int(offsets.max())}."
        )
    times = torch.full((len(offsets), 2), torch.nan, dtype=torch.float64)
    first = 0
    for word in words:
        last = first + len(word.text)
        rate = (word.end - word.start) / max(1, len(word.text))
        for index, (begin, end) in enumerate(offsets.tolist()):
            low, high = max(begin, first), min(end, last)
            if low < high:
                if times[index].isnan().any():
                    times[index, 0] = word.start + (low - first) * rate
                times[index, 1] = word.start + (high - first) * rate
        first = last + 1
    return times


def ctc_word_times(
    log_probs: Tensor, words: Sequence[str], labels: Sequence[Sequence[int]], hop: float, blank: int
) -> list[TimedWord]:
    """Times of known words by forced alignment with a CTC recogniser (torchaudio).

    Args:
        log_probs: Log-probabilities of one utterance, (F', V).
        words: The transcript, word by word.
        labels: Labels of each word, at least one, without blanks of CTC.
        hop: Seconds of a frame of ``log_probs``.
        blank: Label of CTC's blank.

    Raises:
        InputError: The text has more labels than the utterance can hold.
    """
    flat = [label for word in labels for label in word]
    repeats = sum(a == b for a, b in itertools.pairwise(flat))
    if not flat or len(flat) + repeats > len(log_probs):
        raise InputError(
            f"transcript of {len(flat)} labels: expected 1 to {len(log_probs) - repeats}, "
            f"which is what {len(log_probs)} frames can hold."
        )
    path, scores = forced_align(
        log_probs[None].cpu(), torch.tensor([flat], dtype=torch.int32), blank=blank
    )
    spans = merge_tokens(path[0], scores[0].exp(), blank=blank)
    found, first = [], 0
    for word, own in zip(words, labels, strict=True):
        last = first + len(own)
        found.append(TimedWord(word, spans[first].start * hop, spans[last - 1].end * hop))
        first = last
    return found
