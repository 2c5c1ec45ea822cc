"""Pheme's A2S: the codes of all levels above the first, filled in from it (arXiv:2401.02839)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlight.codec.level_filling import fill_level
from kdlight.core.ranges import LayerCount, PositiveInt, Probability
from kdlight.core.spec import Recorded
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.networks.speech.conformer import ConformerBlock
from kdlight.networks.text.token_transformer import checked_head_width, rotary_angles


class AcousticFiller(Recorded, nn.Module):
    """A bidirectional conformer over the frames' codes, asked about one level.

    A frame is the sum of the embeddings of its codes of the levels below and, where it is known,
    of the level itself, of the level's number and of the voice. An unknown code is number K, no
    code, and adds exactly nothing.

    Args:
        codebook_size: Codes K of a level.
        levels: Levels of the codec; the first is given.
        voice: Length of a voice: the mean of the codec's latents over frames.
        voices: Number of voices it keeps, the training speakers in the order of their names.
        width: Channels, a multiple of ``2 * heads``.
        depth: Number of blocks.
        heads: Attention heads.
        kernel: Taps of the convolutions, odd.
        dropout: Dropout probability.

    Attributes:
        table: The voices, (voices, voice).
        codec: Digest of the codec whose codes it knows, (32,) bytes.

    Raises:
        InputError: There is no level to fill, or the sizes do not fit.
    """

    table: Tensor
    codec: Tensor

    def __init__(
        self,
        codebook_size: PositiveInt,
        levels: PositiveInt,
        voice: PositiveInt,
        voices: PositiveInt,
        width: PositiveInt = 128,
        depth: LayerCount = 4,
        heads: PositiveInt = 4,
        kernel: PositiveInt = 5,
        dropout: Probability = 0.0,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise InputError(f"levels: expected 2 or more, found {levels}.")
        self.codebook_size, self.levels, self.voices = codebook_size, levels, voices
        self.head_width = checked_head_width(width, heads)
        self.embedding = nn.Embedding(levels * (codebook_size + 1), width)
        self.asked = nn.Embedding(levels, width)
        self.voice = nn.Linear(voice, width, bias=False)
        self.blocks = nn.ModuleList(
            ConformerBlock(width, heads, kernel, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.Parameter(torch.zeros(levels - 1, width, codebook_size))
        self.register_buffer("table", torch.zeros(voices, voice))
        self.register_buffer("codec", torch.zeros(32, dtype=torch.uint8))

    @property
    def unknown(self) -> int:
        """What stands for an unknown code: K, behind the last code."""
        return self.codebook_size

    def inputs(self, codes: Tensor, level: Tensor, voice: Tensor) -> Tensor:
        """What the conformer reads, (B, F, width); see :meth:`forward`."""
        number = torch.arange(self.levels, device=codes.device)[:, None]
        known = (number <= level[:, None, None]) & (codes != self.unknown)
        embedded = self.embedding(codes + number * (self.codebook_size + 1))
        frames = torch.where(known[..., None], embedded, 0.0).sum(dim=1)
        found: Tensor = frames + (self.asked(level) + self.voice(voice))[:, None]
        return found

    def forward(self, codes: Tensor, level: Tensor, voice: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, F, K) of the codes of one level of each item.

        Args:
            codes: (B, levels, F) int64, unknown ones being K; levels above are not looked at.
            level: Which level is asked for, (B,) int64, from 1 (the second).
            voice: (B, voice).
            mask: Frames that count, (B, F) bool.
        """
        frames = self.inputs(codes, level, voice)
        angles = rotary_angles(frames.shape[1], self.head_width).to(frames.device)
        for block in self.blocks:
            frames = block(frames, angles, mask)
        return torch.einsum("bfw,bwk->bfk", self.norm(frames), self.heads[level - 1])

    @torch.no_grad()
    def fill(
        self,
        codes: Tensor,
        voice: Tensor,
        mask: Tensor,
        draws: RowDraws,
        steps: int = 16,
        temperature: float = 1.0,
        heard: Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]] | None = None,
    ) -> Tensor:
        """All levels, (B, levels, F), from those that are known, one after the other.

        The second is drawn in ``steps`` calls; with one step, and in every level above, the
        likeliest codes are taken at once. So SoundStorm and Pheme's program do it; the paper has
        it the other way round.

        Args:
            codes: (B, levels, F) with K where a code is unknown: all but the first level, and
                where there is a prompt all but its frames.
            voice: (B, voice).
            mask: Frames that count, (B, F) bool; the others' codes are 0.
            draws: The rows' random numbers.
            steps: Calls for the second level.
            temperature: See :func:`~kdlight.codec.level_filling.fill_level`.
            heard: Wraps the function of logits of each level, to see another decoding.
        """
        codes = torch.where(mask[:, None], codes, 0)
        for number in range(1, self.levels):
            level = torch.full((len(codes),), number, device=codes.device)

            def logits_of(row: Tensor, level: Tensor = level, number: int = number) -> Tensor:
                told = codes.clone()
                told[:, number] = row
                logits: Tensor = self(told, level, voice, mask)
                return logits

            asked = logits_of if heard is None else heard(logits_of)
            drawn = number == 1 and steps > 1
            codes[:, number] = fill_level(
                asked,
                codes[:, number],
                self.unknown,
                draws if drawn else None,
                steps if drawn else 1,
                temperature,
            )
        return codes
