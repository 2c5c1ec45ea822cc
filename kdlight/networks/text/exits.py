"""An encoder that can be left behind several of its layers, each time with a vector."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.networks.text.encoder import TextEncoder, TransformerEncoder, mean_of

KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Kinds whose layers end in their own norm: a model of the first k is a model of that kind."""


class ExitEncoder(Recorded, nn.Module):
    """An encoder of ``transformers`` with exits (ModularStarEncoder, arXiv:2503.03008).

    The vector of exit k is the mean of the states behind layer k: that of a model which has the
    first k layers alone (:meth:`prefix`). The paper gives every exit a projection of its own,
    which such a model of transformers would have no place for.

    Args:
        config: Its configuration as transformers writes it (``config.json``), with ``model_type``
            one of bert, roberta, xlm-roberta, camembert and electra.
        exits: Layers behind which there is an exit, counted from 1; none twice, in order.

    Raises:
        InputError: It is another kind, or has no such layer.
    """

    def __init__(self, config: dict[str, Any], exits: list[int]) -> None:
        super().__init__()
        if config.get("model_type") not in KINDS:
            raise InputError(
                f"model_type: expected one of {', '.join(KINDS)}, found "
                f"{config.get('model_type')!r}."
            )
        self.encoder = TransformerEncoder(config)
        self.depth = int(self.encoder.network.config.num_hidden_layers)
        if not exits or exits != sorted({each for each in exits if 1 <= each <= self.depth}):
            raise InputError(
                f"exits: expected layers from 1 to {self.depth} in order, found {exits}."
            )
        self.exits = list(exits)
        self.vocabulary, self.width = self.encoder.vocabulary, self.encoder.width

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Vectors of all exits, (B, E, width).

        Args:
            tokens: (B, L) int64.
            mask: Tokens that are no padding, (B, L) bool.
        """
        found = self.encoder.network(
            input_ids=tokens, attention_mask=mask.long(), output_hidden_states=True
        )
        states = [found.hidden_states[layer] for layer in self.exits]
        return torch.stack([mean_of(each, mask) for each in states], dim=1)

    def prefix(self, layer: int) -> TransformerEncoder:
        """A copy of the first ``layer`` layers: an encoder with the vectors of that exit.

        Raises:
            InputError: There is no exit.
        """
        if layer not in self.exits:
            known = ", ".join(map(str, self.exits))
            raise InputError(f"exit: expected one of {known}, found {layer}.")
        said = dict(self._init_args["config"]) | {"num_hidden_layers": layer}
        with torch.random.fork_rng():  # draws weights that are never used
            found = TransformerEncoder(said)
        found.network.to(next(self.parameters()))
        state = self.encoder.network.state_dict()
        found.network.load_state_dict({name: state[name] for name in found.network.state_dict()})
        return found.train(self.training)


class UnitVectors(TextEncoder):
    """An encoder whose vectors have length 1, so that their products are cosines.

    Args:
        encoder: Gives the vectors.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.vocabulary, self.width = encoder.vocabulary, encoder.width

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return normalize(self.encoder(tokens, mask), dim=1)
