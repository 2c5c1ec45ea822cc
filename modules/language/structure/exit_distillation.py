"""One encoder of several depths: every exit learns to find passages (arXiv:2503.03008)."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat
from kdlight.core.ranks import joint_batch
from kdlight.errors import InputError
from kdlight.losses.language.contrastive import clip_loss, similarity_kl
from kdlight.networks.text.encoder import TextEncoder
from kdlight.networks.text.exits import ExitEncoder, UnitVectors
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class ExitDistillation(DistillationModule):
    """Trains all exits of an encoder at once, so that each prefix of it is a model of its own.

        loss = sum over exits i of w_i CLIP_i + self_distillation * sum over exits but the last
               of w_i KL(whom the last exit's queries find || whom exit i's find)

    w_i is i / depth, as the paper has it for layers 4, 9, 18, 27 and 36 of 36. What the paper calls
    self-distillation is the first sum: the layers are shared, and the deep exits teach through
    them. The second is what is usually meant by the word, and 0 in the paper. Partners are those
    of the joint batch: a passage that stands there twice counts as wrong for the other.

    Args:
        student: The encoder with its exits.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        scale: Of the cosines.
        weights: w_i of every exit; None for i / depth. A 1 behind zeros trains the last alone.
        self_distillation: Weight of the KL.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; partners are those of one batch.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: There are not as many weights as exits, or none is above 0, or one below.
    """

    def __init__(
        self,
        student: ExitEncoder,
        optimizer: Optimization,
        iterations: int = 1000,
        scale: PositiveFloat = 10.0,
        weights: list[float] | None = None,
        self_distillation: NonNegativeFloat = 0.0,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        count = len(student.exits)
        if weights is not None and (
            len(weights) != count or min(weights) < 0 or not 0 < sum(weights) < float("inf")
        ):
            raise InputError(
                f"weights: expected {count} numbers of at least 0, not all 0, found {weights}."
            )
        self.student = student
        self.scale, self.self_distillation = scale, self_distillation
        self.weights = weights or [layer / student.depth for layer in student.exits]
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        tokens = torch.cat([batch["query"], batch["passages"][:, 0]])
        mask = torch.cat([batch["query_mask"], batch["passages_mask"][:, 0]])
        halves = self.student(tokens, mask).chunk(2)
        queries, passages = (joint_batch(each).unbind(dim=1) for each in halves)
        pairs = list(zip(queries, passages, strict=True))
        clip = [clip_loss(*pair, self.scale).mean() for pair in pairs]
        loss = self.weighed(clip)
        if self.self_distillation:
            kl = [similarity_kl(pairs[-1], pair, self.scale).mean() for pair in pairs[:-1]]
            loss = loss + self.self_distillation * self.weighed(kl)
        self.optimize("student", loss)
        names = [f"clip_{layer}" for layer in self.student.exits]
        self.report({name: term.detach() for name, term in zip(names, clip, strict=True)})

    def weighed(self, terms: list[Tensor]) -> Tensor:
        """The sum of the first exits' terms, each with the weight of its exit."""
        return sum(
            (weight * term for weight, term in zip(self.weights, terms, strict=False)),
            start=torch.zeros((), device=self.device),
        )

    def encoders(self) -> dict[str, tuple[str, TextEncoder]]:
        """The model that ends behind each exit, by a name of its own."""
        network = self.ema.module
        return {
            f"exit_{layer}": (f"exit_{layer}", UnitVectors(network.prefix(layer)))
            for layer in network.exits
        }

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("student", self.ema.module)}
