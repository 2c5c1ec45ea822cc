"""What a model says of real sequences: nats a token, exact or a bound."""

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.masking import mask_by_count, stratified_counts
from kdlight.losses.masked_tokens import bound_by_count
from kdlight.losses.next_tokens import next_token_nll
from kdlight.metrics.base import SampleMetric


class HeldoutLikelihood(SampleMetric):
    """Nats a scored token of held-out sequences under a model.

    ``compute()`` returns ``heldout_nll`` and ``perplexity``, its exponential. Of a model that
    writes from left to right both are exact; of a masked model they are an upper bound (the
    time-free form, whose single draws are unbiased), averaged over ``draws`` of the masks.

    Args:
        model: A denoiser, or a model of the next token.
        draws: Draws of the masks of a sequence.
        seed: Seed of the masks.
    """

    total: Tensor
    count: Tensor
    names = ("heldout_nll", "perplexity")

    def __init__(self, model: nn.Module, draws: int = 1, seed: int = 0) -> None:
        super().__init__()
        # Not as a submodule: a metric of a model is no part of it.
        self._model = [model]
        self.draws = draws if not isinstance(model, NextTokenModel) else 1
        self.seed = seed
        self.add_sums(total=(), count=())

    @torch.no_grad()
    def update(self, tokens: Tensor, scored: Tensor, first: int = 0) -> None:
        """Add sequences.

        Args:
            tokens: (B, L) int64.
            scored: Which positions count, (B, L) bool.
            first: Number of the first sequence in the set, which its masks depend on.
        """
        rows = torch.arange(first, first + len(tokens), device=tokens.device)
        for draw in range(self.draws):
            nll = sequence_nll(self._model[0], tokens, scored, RowDraws(rows, self.seed), draw)
            self.add_to("total", nll.double().sum())
            self.add_to("count", int(scored.sum()))

    def enough(self) -> bool:
        return bool(self.count >= 1)

    def figures(self) -> dict[str, Tensor]:
        nll = self.total / self.count
        return {"heldout_nll": nll, "perplexity": nll.exp()}


def sequence_nll(
    model: nn.Module, tokens: Tensor, scored: Tensor, draws: RowDraws, number: int = 0
) -> Tensor:
    """-log p of the scored tokens of each sequence given the others, or one draw of its bound.

    Args:
        model: A denoiser, or a model of the next token, for which all others come before.
        tokens: (B, L) int64.
        scored: (B, L) bool.
        draws: The rows' random numbers.
        number: Which draw this is.

    Returns:
        (B,), nats.
    """
    if isinstance(model, NextTokenModel):
        each: Tensor = next_token_nll(model(tokens), tokens)
        return (each * scored).sum(dim=1)
    for _ in range(2 * number):
        draws.uniform(1)  # other numbers than those of the draws before
    length = scored.sum(dim=1)
    count = stratified_counts(draws.uniform(1)[:, 0], length)
    uniform = draws.uniform(tokens.shape[1]).masked_fill(~scored, 2.0)
    mask = model.vocabulary
    assert isinstance(mask, int)
    seen = mask_by_count(tokens, count, uniform, mask)
    masked = seen != tokens
    found = model(seen).gather(2, tokens[..., None])[..., 0]
    return bound_by_count(torch.where(masked, found, torch.zeros_like(found)), masked, length)
