"""Training of a model that writes captions, such as a teacher."""

from torch import nn

from kdlight.losses.next_tokens import next_token_nll
from kdlight.networks.images.captioner import Captioner
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class CaptionTraining(DistillationModule):
    """Negative log-likelihood of the words of captions.

    Args:
        captioner: The network to train.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        captioner: Captioner,
        optimizer: Optimization,
        iterations: int = 1000,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"captioner": optimizer}, accumulate, seed, max_non_finite)
        self.captioner = captioner
        self.ema = EMA(captioner, ema_half_life)
        self.average("captioner", self.ema)

    def step(self, batch: Batch) -> None:
        tokens = batch["tokens"]
        loss = next_token_nll(self.captioner(batch["image"], tokens).logits, tokens).mean()
        self.optimize("captioner", loss)
        self.report({"nll": loss.detach()})

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("captioner", self.ema.module)}
