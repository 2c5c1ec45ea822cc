"""Likelihood of sequences under a model that writes from left to right."""

from torch import Tensor, nn


def next_token_nll(logits: Tensor, tokens: Tensor) -> Tensor:
    """-log p(token_t | tokens before it) in nats, (B, T) float32.

    Args:
        logits: (B, T, V), of token t at place t.
        tokens: (B, T) int64.
    """
    each = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), tokens.flatten(), reduction="none"
    )
    return each.reshape(tokens.shape)
