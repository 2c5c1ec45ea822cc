"""A denoiser with what it takes to sample from it."""

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.discrete.denoiser import TokenDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.samplers import TokenSample, ancestral, confidence, first_hitting
from kdlight.errors import InputError

MaskedAlgorithm = Literal["ancestral", "first_hitting", "confidence"]
"""The samplers that fill masks."""
TokenAlgorithm = Literal[MaskedAlgorithm, "autoregressive", "jump"]


class TokenGenerator(Recorded, nn.Module):
    """Turns seeds into token sequences.

    Args:
        denoiser: The masked model.
        algorithm: Which sampler; those of models that do not fill masks (``autoregressive``,
            ``jump``) belong to generators of their own.
        steps: Numbers of steps it is made for, the best known first; of ``first_hitting`` the
            calls, each of which reveals as many tokens as it takes.

    Attributes:
        provenance: Where the weights came from (path and hash); None if they were made here.

    Raises:
        InputError: ``steps`` holds a number below 1, or the denoiser is no model of tokens.
    """

    provenance: dict[str, str] | None = None
    has_likelihood: ClassVar[bool] = True
    """Whether its model says how likely a sequence is, or bounds it."""

    def __init__(
        self,
        denoiser: nn.Module,
        algorithm: TokenAlgorithm = "first_hitting",
        steps: tuple[PositiveInt, ...] = (),
    ) -> None:
        super().__init__()
        if not isinstance(denoiser, TokenDenoiser):
            raise InputError(
                f"denoiser: expected a masked model of tokens, found {type(denoiser).__name__}."
            )
        self.denoiser = denoiser
        self.algorithm = algorithm
        self.steps = tuple(steps) or (denoiser.length,)
        if min(self.steps) < 1:
            raise InputError(f"steps: expected numbers above 0, found {list(steps)}.")

    @property
    def vocabulary(self) -> int:
        """Tokens V; the mask is token V."""
        return self.denoiser.vocabulary

    @property
    def length(self) -> int:
        """Tokens of a sequence L."""
        return self.denoiser.length

    def masks(self, count: int, device: torch.device | None = None) -> Tensor:
        """A start without a prompt, (count, L)."""
        return torch.full((count, self.length), self.vocabulary, device=device)

    def draws(self, start: Tensor, seed: int, first: int) -> RowDraws:
        """The random numbers of rows ``first`` on of a set, as many as ``start`` has."""
        rows = torch.arange(first, first + len(start), device=start.device)
        return RowDraws(rows, seed)

    def walks(
        self, algorithms: list[MaskedAlgorithm], steps: list[int]
    ) -> list[tuple["TokenGenerator", int]]:
        """How a report walks it: as it samples by itself, then the parallel samplers.

        Args:
            algorithms: Parallel samplers.
            steps: Their numbers of steps.

        Returns:
            Generators with the numbers of steps to ask them for.
        """
        found = [(self, self.steps[0])]
        for algorithm in algorithms:
            parallel = copy.copy(self)
            parallel.algorithm = algorithm
            own = self.steps[:1] if algorithm == self.algorithm else ()
            found += [(parallel, count) for count in steps if count not in own]
        return found

    def forward(self, start: Tensor, seed: int, first: int = 0, steps: int = 0) -> TokenSample:
        """Fill the masks of ``start``.

        Row i of a set is the same whatever batch it is drawn in.

        Args:
            start: (B, L) int64 with masks.
            seed: Seed of the set.
            first: Number of the first row in the set.
            steps: Number of steps; 0 for the first of :attr:`steps`.
        """
        draws = self.draws(start, seed, first)
        steps = steps or self.steps[0]
        if self.algorithm == "first_hitting":
            together = -(-start.shape[1] // steps)
            return first_hitting(self.denoiser, start, draws, together)
        sampler = {"ancestral": ancestral, "confidence": confidence}.get(self.algorithm)
        if sampler is None:
            raise InputError(
                f"algorithm: expected a sampler that fills masks, found {self.algorithm!r}."
            )
        return sampler(self.denoiser, start, draws, steps)
