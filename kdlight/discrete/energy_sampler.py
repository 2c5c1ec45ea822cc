"""The reverse process with an energy: importance sampling among candidates."""

from typing import cast

import torch
from torch import Tensor

from kdlight.discrete.categorical import draw, draw_several
from kdlight.discrete.denoiser import asked_at
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.energy import EnergyDenoiser
from kdlight.discrete.generator import MaskedAlgorithm, TokenGenerator
from kdlight.discrete.samplers import TokenSample, Walk
from kdlight.errors import InputError


def ancestral_by_energy(
    denoiser: EnergyDenoiser,
    start: Tensor,
    draws: RowDraws,
    steps: int,
    candidates: int,
    window: float = 1.0,
) -> TokenSample:
    """The reverse process in which every step picks one of several candidates by its energy.

    A step from t to s draws ``candidates`` whole sequences from the product of one call, picks one
    with probability proportional to exp(-E) and reveals (t - s) / t of its masked tokens (Xu et
    al., arXiv:2410.21357, algorithm 1). The law tends to p(x | z) as candidates^-2 (divergence),
    whatever the number of steps. One candidate, or a window of 0, is
    :func:`~kdlight.discrete.samplers.ancestral` to the bit.

    The calls that are counted are rows of networks: one of the masked model and one energy a
    candidate.

    Args:
        denoiser: The model.
        start: (B, L) with masks.
        draws: The rows' random numbers.
        steps: Steps N of a grid that is even in alpha.
        candidates: Sequences k to pick from.
        window: The share of the walk, from its start, in which the energy is asked.
    """
    walk = _EnergyWalk(denoiser, start, draws)
    for left in range(steps, 0, -1):
        chosen = (draws.uniform(start.shape[1]) * left < 1) & walk.masked()
        if left / steps > 1 - window:
            walk.reveal_best(chosen, candidates)
        else:
            walk.reveal(chosen)
    return walk.sample()


class _EnergyWalk(Walk):
    """Tokens on their way, revealed from a candidate that was picked."""

    @torch.no_grad()
    def reveal_best(self, chosen: Tensor, candidates: int) -> None:
        """Reveal the positions ``chosen`` (B, L) of one of ``candidates`` sequences."""
        length = chosen.shape[1]
        first, latent = self._draws.uniform(length), self._draws.uniform(1)[:, 0]
        more = [self._draws.uniform(length) for _ in range(candidates - 1)]
        pick = self._draws.uniform(1)[:, 0] if candidates > 1 else latent
        rows = chosen.any(dim=1)
        if not bool(rows.any()):
            return
        asked = self.masked() & rows[:, None]
        seen, places = self._tokens[rows], asked[rows]
        logits = asked_at(self._denoiser, seen, places, latent[rows]).double()
        drawn = draw_several(logits, torch.stack([first, *more], dim=2)[asked])
        filled = seen[..., None].repeat(1, 1, candidates)
        filled[places] = drawn
        filled = filled.transpose(1, 2)
        best = filled[:, 0]
        if candidates > 1:
            # Of a visible token it is 0 = log 1.
            proposal = logits.new_zeros(*seen.shape, candidates)
            proposal[places] = logits.gather(1, drawn) - logits.logsumexp(dim=1, keepdim=True)
            energy = cast(EnergyDenoiser, self._denoiser).energy(
                filled.flatten(0, 1),
                seen.repeat_interleave(candidates, dim=0),
                proposal.sum(dim=1).flatten(),
            )
            weight = -energy.double().reshape(-1, candidates)
            best = filled[torch.arange(len(filled)), draw(weight, pick[rows])]
        self._tokens[chosen] = best[chosen[rows]]
        self._count(rows, chosen, 1 + (candidates if candidates > 1 else 0))


class EnergyGenerator(TokenGenerator):
    """Samples from a masked model with an energy.

    Args:
        denoiser: The masked model with its energy.
        candidates: Sequences of a step to pick from.
        window: The share of the walk, from its start, in which the energy is asked.
        steps: Numbers of steps it is made for, the best known first.

    Raises:
        InputError: ``candidates`` is below 1 or ``window`` is outside of [0, 1].
    """

    has_likelihood = False

    def __init__(
        self,
        denoiser: torch.nn.Module,
        candidates: int = 8,
        window: float = 1.0,
        steps: tuple[int, ...] = (),
    ) -> None:
        if not isinstance(denoiser, EnergyDenoiser):
            found = type(denoiser).__name__
            raise InputError(f"denoiser: expected a masked model with an energy, found {found}.")
        super().__init__(denoiser, "ancestral", steps)
        if candidates < 1 or not 0 <= window <= 1:
            raise InputError(
                "expected candidates of at least 1 and a window in [0, 1], found "
                f"{candidates} and {window}."
            )
        self.candidates = candidates
        self.window = window

    def forward(self, start: Tensor, seed: int, first: int = 0, steps: int = 0) -> TokenSample:
        """Fill the masks of ``start`` (B, L); see :class:`TokenGenerator`."""
        draws = self.draws(start, seed, first)
        steps = steps or self.steps[0]
        denoiser = cast(EnergyDenoiser, self.denoiser)
        return ancestral_by_energy(denoiser, start, draws, steps, self.candidates, self.window)

    def walks(
        self, algorithms: list[MaskedAlgorithm], steps: list[int]
    ) -> list[tuple[TokenGenerator, int]]:
        return [(self, count) for count in dict.fromkeys((self.steps[0], *steps))]
