"""From noise to whole sequences in a jump or two."""

import itertools

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.denoiser import logits_at
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.generator import MaskedAlgorithm, TokenGenerator
from kdlight.discrete.masking import is_masked
from kdlight.discrete.samplers import TokenSample
from kdlight.discrete.token_flow import TokenCodes
from kdlight.errors import InputError


class JumpModel(Recorded, nn.Module):
    """What the tokens are that the noise at their places flows to.

    Places that are known hold the code of their token, the others their noise.

    Args:
        network: Takes vectors (B, L, d) and which of them are codes (B, L), gives logits (B, L, V);
            causal, as the map is.
        codes: The tokens' codes.
        length: Tokens of a sequence L.
    """

    def __init__(self, network: nn.Module, codes: TokenCodes, length: int) -> None:
        super().__init__()
        self.network = network
        self.codes = codes
        self.vocabulary = codes.vocabulary
        self.length = length

    def forward(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """Logits, (B, L, V).

        Args:
            tokens: (B, L) int64, the mask where a place is not known.
            noise: Standard normal, (B, L, d).
        """
        return self.network(*self._vectors(tokens, noise))  # type: ignore[no-any-return]

    def at(self, tokens: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """As :meth:`forward`, at ``places`` (B, L), (N, V)."""
        return logits_at(self.network, places, *self._vectors(tokens, noise))

    def _vectors(self, tokens: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        known = ~is_masked(tokens, self.vocabulary)
        codes = self.codes.vectors[tokens.clamp(max=self.vocabulary - 1)]
        return torch.where(known[..., None], codes, noise.double()).float(), known


def standard_normal(draws: RowDraws, length: int, dimension: int) -> Tensor:
    """Standard normal numbers of the rows, (B, length, dimension) float64."""
    uniform = draws.uniform(length * dimension) + 2**-54
    normal: Tensor = torch.special.ndtri(uniform.clamp(max=1 - 2**-53))
    return normal.reshape(-1, length, dimension)


@torch.no_grad()
def jump(model: JumpModel, start: Tensor, noise: Tensor, starts: tuple[int, ...]) -> TokenSample:
    """Predict all tokens from the noise; keep the first of them, predict the rest again.

    The noise behind a start is the one that the map was given at first: with other noise the
    tokens would no longer belong to those before them. The likeliest token is taken; drawing
    from the logits would make the tokens of a call independent of one another.

    Args:
        model: The model.
        start: (B, L) with masks; as the map has it, only a prompt at the beginning conditions.
        noise: (B, L, d).
        starts: First place of every jump, from 0 upwards.
    """
    masked = is_masked(start, model.vocabulary)
    places = torch.arange(start.shape[1], device=start.device)
    tokens, revealed_at = start.clone(), torch.zeros_like(start)
    for call, first in enumerate(starts, start=1):
        asked = masked & (places >= first)
        seen = tokens.masked_fill(asked, model.vocabulary)
        tokens[asked] = model.at(seen, noise, asked).argmax(dim=1)
        revealed_at = revealed_at.masked_fill(asked, call)
    calls = torch.full((len(start),), len(starts), device=start.device)
    return TokenSample(tokens, calls, revealed_at)


class JumpGenerator(TokenGenerator):
    """Writes a sequence in as many calls as it jumps.

    Args:
        model: The model.
        starts: First place of every jump, from 0 upwards; n steps are the first n of them.

    Raises:
        InputError: They do not rise from 0.
    """

    has_likelihood = False

    def __init__(self, model: nn.Module, starts: tuple[int, ...] = (0,)) -> None:
        if not isinstance(model, JumpModel):
            raise InputError(f"model: expected a model that jumps, found {type(model).__name__}.")
        super().__init__(model, "jump", tuple(range(1, len(starts) + 1)))
        self.starts = checked_starts(starts, self.length)

    def forward(self, start: Tensor, seed: int, first: int = 0, steps: int = 0) -> TokenSample:
        """Fill the masks of ``start`` (B, L); ``steps`` is the number of jumps."""
        steps = steps or self.steps[0]
        if steps > len(self.starts):
            raise InputError(f"steps: expected at most {len(self.starts)} jumps, found {steps}.")
        model = self.denoiser
        assert isinstance(model, JumpModel)
        draws = self.draws(start, seed, first)
        noise = standard_normal(draws, start.shape[1], model.codes.dimension)
        return jump(model, start, noise, self.starts[:steps])

    def walks(
        self, algorithms: list[MaskedAlgorithm], steps: list[int]
    ) -> list[tuple[TokenGenerator, int]]:
        return [(self, count) for count in self.steps]


def checked_starts(starts: tuple[int, ...], length: int) -> tuple[int, ...]:
    """First places of jumps.

    Raises:
        InputError: They do not rise from 0 to less than ``length``.
    """
    rising = all(before < after for before, after in itertools.pairwise(starts))
    if not starts or starts[0] != 0 or not rising or starts[-1] >= length:
        raise InputError(
            f"starts: expected places that rise from 0 and stay below {length}, "
            f"found {list(starts)}."
        )
    return tuple(starts)
