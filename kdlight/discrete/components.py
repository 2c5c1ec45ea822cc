"""A mixture of products: tokens that depend on one another within a single call."""

import math

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.discrete.denoiser import as_seen, logits_at


class ComponentDenoiser(Recorded, nn.Module):
    """p(x | visible) = mean over k of the product over l of p(x_l | visible, k).

    A product draws the tokens of one call independently of one another, whatever its network; a
    mixture of products need not (Hayakawa et al., arXiv:2410.08709, section 3). Theirs is indexed
    by a uniform number, which training on mixed noise levels learns to ignore; here by an integer.

    Args:
        network: Takes tokens (B, L) with masks and components (B,), gives logits (B, L, V).
        vocabulary: Tokens V.
        length: Tokens of a sequence L.
        components: Size of the mixture K; what the network was built for.

    Raises:
        InputError: A number is below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        vocabulary: PositiveInt,
        length: PositiveInt,
        components: PositiveInt,
    ) -> None:
        super().__init__()
        self.network = network
        self.vocabulary = vocabulary
        self.length = length
        self.components = components

    def component_log_probs(self, tokens: Tensor) -> Tensor:
        """Log p(x_l | visible tokens, k) for every component k, (B, K, L, V) float32."""
        count = self.components
        component = torch.arange(count, device=tokens.device).repeat(len(tokens))
        found = self._of(tokens.repeat_interleave(count, dim=0), component)
        return found.reshape(len(tokens), count, *found.shape[1:])

    def _of(self, tokens: Tensor, component: Tensor) -> Tensor:
        logits = self.network(tokens, component).float()
        with torch.autocast(tokens.device.type, enabled=False):
            found = logits.log_softmax(dim=2)
        return as_seen(found, tokens)

    def forward(self, tokens: Tensor, latent: Tensor | None = None) -> Tensor:
        """Log p(x_l | visible tokens), (B, L, V): of a chosen component, or of the whole mixture.

        Args:
            tokens: (B, L) int64 with masks.
            latent: Numbers in [0, 1) that choose the components, (B,); None for the mean over all.
        """
        if latent is not None:
            return self._of(tokens, (latent * self.components).long())
        return self.component_log_probs(tokens).logsumexp(dim=1) - math.log(self.components)

    def at(self, tokens: Tensor, places: Tensor, latent: Tensor | None = None) -> Tensor:
        """Logits at the masked ``places`` (B, L), (N, V); see :meth:`forward`."""
        if latent is None:
            return self(tokens)[places]  # type: ignore[no-any-return]
        component = (latent * self.components).long()
        return logits_at(self.network, places, tokens, component).float()
