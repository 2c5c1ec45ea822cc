"""What a block of attention remembers of the tokens it has read."""

import torch
from torch import Tensor


class KeyValues:
    """Keys and values of all tokens read so far, (B, H, N, head width) each."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Remember more tokens; those of all."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values

    def keep(self, places: Tensor) -> None:
        """Forget all tokens but those at ``places`` (n,), which stay in that order."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(2, places)
            self.values = self.values.index_select(2, places)
