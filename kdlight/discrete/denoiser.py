"""What every sampler and method asks of a masked model: log-probabilities of the clean tokens."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.discrete.masking import is_masked
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError


@runtime_checkable
class TokenDenoiser(Protocol):
    """A model of clean tokens given the visible ones.

    Attributes:
        vocabulary: Tokens V; the mask is token V.
        length: Tokens of a sequence L.
    """

    vocabulary: int
    length: int

    def __call__(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log p(x_l | visible tokens), (B, L, V), of tokens (B, L) with masks.

        With ``latent``, uniform numbers (B,), a mixture answers for the component that they choose,
        so that tokens drawn in one call belong together; other models do not look at them.
        """
        ...


@runtime_checkable
class PlacedDenoiser(Protocol):
    """A model that can be asked about some of the masked tokens alone."""

    def at(self, tokens: Tensor, places: Tensor, latent: Tensor | None = None) -> Tensor:
        """Logits of the tokens at the masked ``places`` (B, L) bool, row by row, (N, V)."""
        ...


def asked_at(
    denoiser: TokenDenoiser, tokens: Tensor, places: Tensor, latent: Tensor | None = None
) -> Tensor:
    """Logits of the tokens at the masked ``places`` (B, L), row by row, (N, V), of any model.

    A sampler that reveals a few tokens a call wants the laws of these: over a large vocabulary all
    others cost more than the rest of the network.
    """
    if isinstance(denoiser, PlacedDenoiser):
        return denoiser.at(tokens, places, latent)
    return denoiser(tokens, latent)[places]


class MaskedDenoiser(Recorded, nn.Module):
    """A network whose output is read as MDLM reads it (arXiv:2406.07524, section 3.2).

    No probability on the mask, and a visible token stays what it is, with certainty. Computed in
    float32 whatever the network's precision.

    Args:
        network: Takes tokens (B, L) with masks, gives logits (B, L, V).
        vocabulary: Tokens V.
        length: Tokens of a sequence L.

    Raises:
        InputError: ``vocabulary`` or ``length`` is below 1, or the network has other tokens.
    """

    def __init__(self, network: nn.Module, vocabulary: PositiveInt, length: PositiveInt) -> None:
        super().__init__()
        check_logits(network, vocabulary)
        self.network = network
        self.vocabulary = vocabulary
        self.length = length

    def forward(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log p(x_l | visible tokens), (B, L, V), of tokens (B, L) with masks."""
        logits = self.logits(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            found = logits.log_softmax(dim=2)
        return as_seen(found, tokens)

    def logits(self, tokens: Tensor) -> Tensor:
        """What the network says, (B, L, V) float32."""
        return self.network(tokens).float()  # type: ignore[no-any-return]

    def at(self, tokens: Tensor, places: Tensor, latent: Tensor | None = None) -> Tensor:
        """See :class:`PlacedDenoiser`."""
        return logits_at(self.network, places, tokens).float()


def check_logits(network: nn.Module, vocabulary: int) -> None:
    """Refuse a network whose last layer has other tokens, where it says so: they would be drawn.

    Raises:
        InputError: It has.
    """
    head = getattr(network, "head", None)
    if isinstance(head, nn.Linear) and head.out_features != vocabulary:
        raise InputError(
            f"vocabulary: expected that of the network, {head.out_features}, found {vocabulary}."
        )


def logits_at(network: nn.Module, places: Tensor, *inputs: Tensor) -> Tensor:
    """What ``network(*inputs)`` (B, L, V) says at ``places`` (B, L), row by row, (N, V).

    One whose ``takes_places`` is true computes no others.
    """
    if getattr(network, "takes_places", False):
        return network(*inputs, places=places)  # type: ignore[no-any-return]
    return network(*inputs)[places]  # type: ignore[no-any-return]


def as_seen(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """``log_probs`` (B, L, V) where ``tokens`` (B, L) are masked; certainty where they are not."""
    # One pass over the vocabulary, and numbers at the visible tokens alone.
    visible = ~is_masked(tokens, log_probs.shape[2])
    found = log_probs.masked_fill(visible[..., None], -torch.inf)
    row, place = visible.nonzero(as_tuple=True)
    found[row, place, tokens[row, place]] = 0.0
    return found


class OracleDenoiser(Recorded, nn.Module):
    """The exact conditionals of a language: every sampler and distiller is tested against them.

    Args:
        language: The language.
    """

    def __init__(self, language: HMMLanguage) -> None:
        super().__init__()
        self.language = language
        self.vocabulary = language.vocabulary
        self.length = language.length

    def forward(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log p(x_l | visible tokens), (B, L, V) float64, of tokens (B, L) with masks."""
        return self.language.conditionals(tokens).log()
