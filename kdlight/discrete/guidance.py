"""Guidance of masked models by their prompt, with the same network on both sides."""

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.denoiser import TokenDenoiser, as_seen
from kdlight.errors import InputError


class GuidedTokenDenoiser(Recorded, nn.Module):
    """Unsupervised classifier-free guidance (Nie et al., arXiv:2410.18514, section 4.1).

        log p~(x_l | prompt, z) = (1 + w) log p(x_l | prompt, z) - w log p(x_l | masks, z)

    and normalised: w = 0 is the model itself, w = -1 forgets the prompt; others write 1 + w as
    their scale. A model that was trained on text without prompts knows both sides, because masks
    in the place of the prompt are what it was trained on. Two rows of the network a call.

    The guided conditionals belong to no joint law: samples depend on the order and on the number
    of calls, so a scale means something only together with them.

    Args:
        denoiser: The model.
        scale: w.
        prompt: Which positions hold the prompt, the same in all rows: L values.

    Raises:
        InputError: ``prompt`` is of another length than the model's sequences.
    """

    places: Tensor

    def __init__(self, denoiser: nn.Module, scale: float, prompt: list[bool]) -> None:
        super().__init__()
        if not isinstance(denoiser, TokenDenoiser):
            raise InputError(
                f"denoiser: expected a masked model of tokens, found {type(denoiser).__name__}."
            )
        if len(prompt) != denoiser.length:
            raise InputError(f"prompt: expected {denoiser.length} positions, found {len(prompt)}.")
        self.denoiser = denoiser
        self.scale = scale
        self.vocabulary = denoiser.vocabulary
        self.length = denoiser.length
        self.register_buffer("places", torch.tensor(prompt), persistent=False)

    def forward(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log p~(x_l | visible tokens), (B, L, V), of tokens (B, L) with masks."""
        both = torch.cat([tokens, tokens.masked_fill(self.places, self.vocabulary)])
        twice = None if latent is None else torch.cat([latent, latent])
        given, blank = self.denoiser(both, twice).chunk(2)
        # What is impossible stays so: the difference of two infinities is no number.
        step = torch.where(given.isfinite() & blank.isfinite(), given - blank, 0.0)
        return as_seen((given + self.scale * step).log_softmax(dim=2), tokens)
