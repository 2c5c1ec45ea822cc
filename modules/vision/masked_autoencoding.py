"""A vision transformer learns from images alone by filling in what is hidden."""

from torch import nn

from kdlight.core.ranges import Probability
from kdlight.errors import InputError
from kdlight.losses.masked_images import masked_pixel_error, patches_of
from kdlight.networks.images.vit import MaskedAutoencoder
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.encoders import EncoderModule


class MaskedAutoencoding(EncoderModule):
    """Masked autoencoding (MAE; He et al., arXiv:2111.06377), the maker of teachers without labels.

        loss = mean squared error of the pixels of the patches that were left out

    Args:
        model: Encoder and decoder.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        mask_ratio: Share of the patches that is left out.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: No patch would be left, or none left out.
    """

    def __init__(
        self,
        model: MaskedAutoencoder,
        optimizer: Optimization,
        iterations: int = 2000,
        mask_ratio: Probability = 0.75,
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"model": optimizer}, accumulate, seed, max_non_finite)
        self.visible = visible_patches(model.encoder.patches, mask_ratio)
        if self.visible == model.encoder.patches:
            raise InputError(f"mask_ratio: expected one that hides a patch, found {mask_ratio}.")
        self.model = model
        self.ema = EMA(model, ema_half_life)
        self.average("model", self.ema)

    def step(self, batch: Batch) -> None:
        image = batch["image"]
        keep = self.kept(len(image), self.model.encoder.patches, self.visible)
        pixels = patches_of(image, self.model.encoder.patch_size)
        loss = masked_pixel_error(self.model(image, keep), pixels, keep)
        self.optimize("model", loss)
        self.report({"pixels": loss.detach()})

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("autoencoder", self.ema.module)}


def visible_patches(patches: int, ratio: float) -> int:
    """``int(N (1 - ratio))``, as MAE's program rounds.

    Raises:
        InputError: That is none.
    """
    # Rounded before, or 50 * (1 - .9) would be 4.
    visible = int(round(patches * (1 - ratio), 9))
    if visible < 1:
        raise InputError(
            f"mask_ratio: expected one that leaves a patch of {patches}, found {ratio}."
        )
    return visible
