"""Pheme's T2S: phones to the first level of a codec's codes, one after the other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.discrete.categorical import draw
from kdlight.discrete.draws import RowDraws
from kdlight.networks.speech.phone_text import PHONES
from kdlight.networks.text.token_transformer import TokenTransformer

FRAMES_A_PHONE = 15
"""A text is given up after so many frames for each of its phones: 0.3 s at 50 Hz."""


class SemanticWriter(Recorded, nn.Module):
    """A causal transformer over a row of phones, a mark, codes and the mark again.

    Pheme (arXiv:2401.02839) has a T5 over the same symbols. A prompt is a row that has begun: its
    phones before those of the text, its codes before those to come.

    Args:
        codebook_size: Codes K of the level.
        width: Channels, a multiple of ``2 * heads``.
        depth: Number of blocks.
        heads: Attention heads.
        dropout: Dropout probability.
        phones: Names of the phones, the first is silence.

    Attributes:
        codec: Digest of the codec whose codes it writes, (32,) bytes.
    """

    codec: Tensor

    def __init__(
        self,
        codebook_size: PositiveInt,
        width: PositiveInt = 128,
        depth: LayerCount = 3,
        heads: PositiveInt = 4,
        dropout: Probability = 0.0,
        phones: Sequence[str] = PHONES,
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.phones = tuple(phones)
        # 0 is padding, then phones, codes, the mark.
        self.first_code = len(self.phones) + 1
        self.mark = self.first_code + codebook_size
        self.network = TokenTransformer(
            self.mark + 1, width, depth, heads, causal=True, dropout=dropout
        )
        self.register_buffer("codec", torch.zeros(32, dtype=torch.uint8))

    def rows(self, text: Tensor, codes: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of symbols, and which of their symbols are codes or the mark at the end.

        Args:
            text: Phone numbers, (B, L) int64; 0 is padding.
            codes: (B, F) int64.
            frames: How many codes of each count, (B,).

        Returns:
            (B, L + F + 2) int64, 0 behind a row's end; the same shape, bool.
        """
        letters = (text > 0).sum(dim=1, keepdim=True)
        width = text.shape[1] + codes.shape[1] + 2
        place = torch.arange(width, device=text.device).expand(len(text), -1)
        within = place - letters - 1
        symbols = text.gather(1, place.clamp(max=text.shape[1] - 1))
        code = codes.gather(1, within.clamp(0, codes.shape[1] - 1)) + self.first_code
        inside = (within >= 0) & (within < frames[:, None])
        marks = (within == -1) | (within == frames[:, None])
        row = torch.where(place < letters, symbols, torch.zeros_like(symbols))
        row = torch.where(inside, code, row).masked_fill(marks, self.mark)
        return row, inside | (within == frames[:, None])

    def forward(self, text: Tensor, codes: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each code and of the end, and where they stand, (B, L + F + 1).

        Args:
            text: (B, L) int64; 0 is padding.
            codes: (B, F) int64.
            frames: How many codes of each count, (B,).
        """
        row, scored = self.rows(text, codes, frames)
        logits = self.network(row[:, :-1])[..., self.first_code :].float()
        said = (row[:, 1:] - self.first_code).clamp(min=0)
        log_probs = logits.log_softmax(dim=-1).gather(2, said[..., None])[..., 0]
        return log_probs, scored[:, 1:]

    @torch.no_grad()
    def write(
        self,
        text: Tensor,
        draws: RowDraws,
        temperature: float = 0.7,
        prompt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Codes of texts, as many as it wants, ``FRAMES_A_PHONE`` a phone at most.

        Args:
            text: (B, L) int64; 0 is padding.
            draws: The rows' random numbers.
            temperature: Of the draws; 0 takes the likeliest.
            prompt: Codes of a reference whose phones are the first of the text, (B, n); they come
                back too.

        Returns:
            Codes (B, F) int64, 0 behind an end; how many count, (B,).
        """
        letters = (text > 0).sum(dim=1)
        limit = FRAMES_A_PHONE * letters
        begun = text.new_zeros(len(text), 0) if prompt is None else prompt
        length = begun.shape[1]
        room = text.new_zeros(len(text), length + int(limit.max()))
        frames = torch.full_like(letters, length)
        codes = torch.cat([begun, room], dim=1)[:, : length + int(limit.max())]
        open_rows = torch.ones_like(letters, dtype=torch.bool)
        for place in range(length, codes.shape[1]):
            row, _ = self.rows(text, codes[:, : max(place, 1)], frames)
            last_place = letters + frames
            logits = self.network(row[:, : int(last_place.max()) + 1])
            last = logits[torch.arange(len(row)), last_place, self.first_code :].float()
            if place == length:  # a text of no code would be no speech
                last[:, -1] = -torch.inf
            if temperature > 0:
                chosen = draw(last / temperature, draws.uniform(1)[:, 0])
            else:
                chosen = last.argmax(dim=1)
            open_rows = open_rows & (chosen < self.codebook_size) & (frames - length < limit)
            if not bool(open_rows.any()):
                break
            codes[:, place] = torch.where(open_rows, chosen, 0)
            frames = frames + open_rows
        return codes[:, : max(int(frames.max()), 1)], frames
