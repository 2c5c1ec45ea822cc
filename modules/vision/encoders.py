"""What the methods that train encoders of images have in common."""

import torch
from torch import Tensor

from kdlight.networks.images.vit import MaskedAutoencoder, TokenEncoder
from kdlight.training.base import Batch, DistillationModule


class EncoderModule(DistillationModule):
    """Base of the methods whose :meth:`models` hold encoders of patches."""

    def encoders(self) -> dict[str, TokenEncoder]:
        """What is measured, by name, a teacher first."""
        return {
            name: model.encoder
            for name, model in self.models().values()
            if isinstance(model, MaskedAutoencoder)
        }

    def kept(self, count: int, patches: int, visible: int) -> Tensor:
        """Numbers of the patches of each image that are seen, (count, visible), in random order."""
        return self.noise.uniform(count, patches).argsort(dim=1)[:, :visible]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Features of the last encoder, (B, width)."""
        encoder = list(self.encoders().values())[-1]
        with torch.no_grad():
            return encoder.features(batch["image"])
