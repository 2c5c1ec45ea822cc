"""Training of a model that writes from left to right, by the likelihood of the next token."""

from kdlight.core.ranks import joint_mean
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.generator import TokenGenerator
from kdlight.losses.next_tokens import next_token_nll
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule


class LanguageTraining(TokenModule):
    """Trains a language model: what teachers of language are made by.

        loss = mean over the scored tokens of -log p(x_t | x_<t)

    It is a mean over all scored tokens of the joint batch, wherever they lie: ``batch["mask"]``
    says which are scored, all where there is none.

    Args:
        model: The model.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own tokens.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        model: AutoregressiveModel,
        optimizer: Optimization,
        iterations: int = 3000,
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"model": optimizer}, accumulate, seed, max_non_finite)
        self.model = model
        self.ema = EMA(model, ema_half_life)
        self.average("model", self.ema)

    def step(self, batch: Batch) -> None:
        tokens = batch["tokens"]
        nll = next_token_nll(self.model(tokens), tokens)
        loss = joint_mean(nll, self.scored(batch).to(nll.dtype))
        self.optimize("model", loss)
        self.report({"nll": loss.detach()})

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("model", AutoregressiveGenerator(self.ema.module))}
