"""Drafts by a layer that foresees a model's features (EAGLE, FSPAD)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.discrete.categorical import draw
from kdlight.errors import InputError
from kdlight.networks.text.feature_draft import FeatureDraft
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.speculative.drafters import law
from kdlight.speculative.drafts import Chain


def ends_of(model: nn.Module) -> tuple[nn.Embedding, nn.Linear]:
    """Embedding and head of a model of next tokens.

    Raises:
        InputError: It is no model whose head is known.
    """
    network = getattr(model, "network", None)
    if isinstance(network, TokenTransformer):
        return network.embedding, network.head
    if isinstance(network, CausalLM):
        inner = network.model
        return inner.get_input_embeddings(), inner.get_output_embeddings()  # type: ignore[operator]
    raise InputError(
        "target: expected a TokenTransformer, or a causal model of transformers, found "
        f"{type(network or model).__name__}."
    )


@contextmanager
def listening(head: nn.Linear, heard: Callable[[Tensor], None]) -> Iterator[None]:
    """Inside, ``heard`` is told of all features that a head is given, (B, L, D)."""
    hook = head.register_forward_pre_hook(lambda _, given: heard(given[0]))
    try:
        yield
    finally:
        hook.remove()


def logits_of(head: nn.Linear, features: Tensor, vocabulary: int) -> Tensor:
    """What a head makes of features, unheard, (..., V)."""
    return nn.functional.linear(features, head.weight, head.bias)[..., :vocabulary]


class FeatureDrafter:
    """Writes a few tokens ahead from the features that the target computed last.

    Before the target has read anything there is no feature, and nothing is proposed. The layer is
    computed anew over the row for every token, which is little beside a call of the target.

    Args:
        target: The model that verifies, whose head is listened to until :meth:`end`.
        draft: The layer, trained for it.
        block: Tokens of a draft.
        temperature: Logits are divided by it; the target's, for the most to be kept.

    Raises:
        InputError: The layer is of another width.
    """

    def __init__(
        self,
        target: AutoregressiveModel,
        draft: FeatureDraft,
        block: int = 4,
        temperature: float = 1.0,
    ) -> None:
        self.embedding, self.head = ends_of(target)
        check_width(draft, self.head)
        self.vocabulary = target.vocabulary
        self.draft, self.block, self.temperature = draft, block, temperature
        self._hook = self.head.register_forward_pre_hook(lambda _, given: self._heard(given[0]))
        self.begin()

    def begin(self) -> None:
        """A new row begins."""
        self.features = self.head.weight.new_zeros(1, 0, self.draft.width)

    def end(self) -> None:
        """Listen no more."""
        self._hook.remove()

    def _heard(self, features: Tensor) -> None:
        self.features = torch.cat([self.features, features.detach()], dim=1)

    @torch.no_grad()
    def propose(self, row: Sequence[int], most: int, uniform: Tensor) -> Chain:
        """A continuation that the layer draws."""
        # What was read of a draft beyond what was kept stands behind it.
        self.features = features = self.features[:, : len(row)]
        tokens: list[int] = []
        laws: list[Tensor] = []
        if row and features.shape[1] == len(row):
            embedded = self.embedding(torch.tensor([list(row)], device=features.device))
            for place in range(min(self.block, most)):
                foreseen = self.draft(embedded, features)
                logits = logits_of(self.head, foreseen.shown[0, -1], self.vocabulary)
                laws.append(law(logits, self.temperature))
                tokens.append(int(draw(laws[-1], uniform[place])))
                new = torch.tensor([tokens[-1:]], device=features.device)
                embedded = torch.cat([embedded, self.embedding(new)], dim=1)
                features = torch.cat([features, foreseen.fed[:, -1:]], dim=1)
        none = torch.empty(0, self.vocabulary, dtype=torch.float64, device=uniform.device)
        return Chain(tokens, torch.stack(laws) if laws else none)


def check_width(draft: FeatureDraft, head: nn.Linear) -> None:
    """A draft foresees features of the model's width.

    Raises:
        InputError: It has another.
    """
    if draft.width != head.in_features:
        raise InputError(
            f"draft: expected the target's width of {head.in_features}, found {draft.width}."
        )
