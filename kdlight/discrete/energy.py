"""A masked model whose tokens are weighed by an energy of whole sequences.

p(x | z) = mu(x | z) exp(-E(x, z)) / Z(z): mu is the product that a masked model gives of one call,
E the dependence between tokens that a product leaves out (Xu et al., EDLM, arXiv:2410.21357).
"""

import copy
import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.denoiser import TokenDenoiser, asked_at
from kdlight.discrete.masking import is_masked
from kdlight.errors import InputError


@runtime_checkable
class EnergyDenoiser(Protocol):
    """A masked model that can say which of its own sequences are good.

    Attributes:
        vocabulary: Tokens V; the mask is token V.
        length: Tokens of a sequence L.
    """

    vocabulary: int
    length: int

    def __call__(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log mu(x_l | visible tokens), (B, L, V), of tokens (B, L) with masks."""
        ...

    def energy(self, clean: Tensor, seen: Tensor, proposal: Tensor) -> Tensor:
        """E of clean tokens (B, L) that fill the masks of ``seen`` (B, L), (B,) in nats.

        ``proposal`` (B,) is log mu(clean | seen).
        """
        ...


class NeuralEnergy(Recorded, nn.Module):
    """An energy that is a network, learnt against the masked model's own samples.

    Args:
        proposal: The masked model.
        network: Takes clean tokens and tokens with masks, (B, L) each, gives (B,).

    Raises:
        InputError: The proposal is no masked model.
    """

    def __init__(self, proposal: nn.Module, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(proposal, TokenDenoiser):
            raise InputError(
                f"proposal: expected a masked model of tokens, found {type(proposal).__name__}."
            )
        self.proposal = proposal
        self.network = network
        self.vocabulary = proposal.vocabulary
        self.length = proposal.length

    def __deepcopy__(self, memo: dict[int, Any]) -> "NeuralEnergy":
        """A copy, such as an average, shares the proposal, which nobody trains."""
        memo[id(self.proposal)] = self.proposal
        made = type(self).__new__(type(self))
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def forward(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log mu(x_l | visible tokens), (B, L, V)."""
        return self.proposal(tokens, latent)  # type: ignore[no-any-return]

    def at(self, tokens: Tensor, places: Tensor, latent: Tensor | None = None) -> Tensor:
        """Logits of the proposal at ``places`` (B, L), (N, V)."""
        return asked_at(self.proposal, tokens, places, latent)

    def energy(self, clean: Tensor, seen: Tensor, proposal: Tensor) -> Tensor:
        """E(clean, seen), (B,) float32."""
        return self.network(clean, seen).float()  # type: ignore[no-any-return]


class AutoregressiveEnergy(Recorded, nn.Module):
    """The energy -log p_AR(x) + log mu(x | z), which nobody has to train (EDLM-AR).

    With an exact autoregressive model, p is the exact law of the masked tokens.

    Args:
        proposal: The masked model.
        model: The autoregressive model.
        carry_over: Sum log p_AR over the masked tokens only, as the authors' program does. The law
            is normalised then, and blind to visible tokens behind a masked one: with more
            candidates and more steps samples get worse than without an energy
            (``docs/methods/tokens.md``).

    Raises:
        InputError: The two models have other vocabularies or lengths, or are no such models.
    """

    def __init__(self, proposal: nn.Module, model: nn.Module, carry_over: bool = False) -> None:
        super().__init__()
        if not isinstance(proposal, TokenDenoiser):
            raise InputError(
                f"proposal: expected a masked model of tokens, found {type(proposal).__name__}."
            )
        if not isinstance(model, NextTokenModel):
            raise InputError(
                f"model: expected a model of next tokens, found {type(model).__name__}."
            )
        sizes = [(part.vocabulary, part.length) for part in (proposal, model)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"model: expected the proposal's vocabulary and length {sizes[0]}, found "
                f"{sizes[1]}."
            )
        self.proposal = proposal
        self.model = model
        self.carry_over = carry_over
        self.vocabulary, self.length = sizes[0]

    def forward(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log mu(x_l | visible tokens), (B, L, V)."""
        return self.proposal(tokens, latent)  # type: ignore[no-any-return]

    def at(self, tokens: Tensor, places: Tensor, latent: Tensor | None = None) -> Tensor:
        """Logits of the proposal at ``places`` (B, L), (N, V)."""
        return asked_at(self.proposal, tokens, places, latent)

    def energy(self, clean: Tensor, seen: Tensor, proposal: Tensor) -> Tensor:
        """-log p_AR(clean) + ``proposal``, (B,) float64."""
        logits = self.model(clean)
        each = logits.log_softmax(dim=2).gather(2, clean[..., None])[..., 0].double()
        if self.carry_over:
            each = each.where(is_masked(seen, self.vocabulary), 0.0)
        return proposal.double() - each.sum(dim=1)  # type: ignore[no-any-return]


def log_partition(energies: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of log Z from n energies of draws of mu, whose means bound it from both sides.

    T_n = log mean_n exp(-E) has a mean below log Z, (2n - 1) T_n - 2 (n - 1) T_(n-1) above it for
    large n (Deng et al., arXiv:2004.11714, as EDLM uses it); T_(n-1) is a mean over what is left
    without each draw.

    Args:
        energies: (..., n), n being 2 or more.

    Returns:
        Lower and upper estimate, (...).
    """
    weights = -energies.double()
    count = weights.shape[-1]
    whole = weights.logsumexp(dim=-1)
    lower = whole - math.log(count)
    # log(sum - each) from log sum and log each.
    without = whole[..., None] + torch.log1p(-(weights - whole[..., None]).exp())
    shorter = without.mean(dim=-1) - math.log(count - 1)
    return lower, (2 * count - 1) * lower - 2 * (count - 1) * shorter
