"""Finding passages: a student follows teachers' margins (Hofstaetter et al., arXiv:2010.02666)."""

from torch import Tensor, nn

from kdlight.core.ranks import joint_mean
from kdlight.losses.language.ranking import RankingObjective
from kdlight.networks.text.encoder import TextEncoder
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class RankingDistillation(DistillationModule):
    """Distils scores of passages into the product of two vectors, so that passages can be indexed.

        s(q, d) = <e(q), e(d)>
        loss = mean over pairs of ((s(q, d+) - s(q, d-)) - (t(q, d+) - t(q, d-)))^2

    Scores t are the data's: of one teacher, or the mean of several, asked once
    (``datamodules.text.ranking``). Other objectives are parts
    (:mod:`kdlight.losses.language.ranking`), labels alone among them.

    Args:
        student: The encoder e of queries and passages.
        objective: What is minimised.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own pairs.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        student: TextEncoder,
        objective: RankingObjective,
        optimizer: Optimization,
        iterations: int = 1000,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        self.student = student
        self.objective = objective
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        passages, mask = batch["passages"], batch["passages_mask"]
        queries = self.student(batch["query"], batch["query_mask"])
        vectors = self.student(passages.flatten(0, 1), mask.flatten(0, 1))
        scores: Tensor = (queries[:, None] * vectors.unflatten(0, passages.shape[:2])).sum(dim=2)
        found = self.objective(scores.float(), batch["scores"], mask.any(dim=2))
        loss = joint_mean(found.values, found.weights)
        self.optimize("student", loss)
        self.report({"ranking": loss.detach()})

    def encoders(self) -> dict[str, tuple[str, TextEncoder]]:
        """What training ends in, by its state-dict prefix."""
        return {"ema.module": ("student", self.ema.module)}

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.encoders())
