"""Experts of a dense model and a router that chooses ahead learn in turns (Read-ME, 2410.19123)."""

from typing import ClassVar

import torch
from torch import Tensor

from kdlight.core.ranges import NonNegativeInt, PositiveInt, Probability
from kdlight.core.ranks import joint_mean
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.losses.language.routing import expert_law, routing_loss
from kdlight.losses.next_tokens import next_token_nll
from kdlight.networks.text.experts import ExpertTransformer
from kdlight.surgery.experts import dense, hidden_units, perceptrons
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule


class ReadMe(TokenModule):
    """In every round first the router learns, then all the rest.

    - Router: of each token, which expert holds the units that are most active in the dense model,
      layer by layer, the losses of all layers summed. It sees tokens alone, so that one choice
      serves all layers and is known before the first runs.
    - Experts: the likelihood of the data, every token through the expert that the router gives it.
      The choice has no gradient.

    Neither half of a round has a gradient for what the other trains, so one optimizer has both; its
    schedule begins anew in every half.

    Args:
        teacher: The dense model that the experts were cut out of.
        student: The experts, of ``kdlight prune --experts``.
        optimizer: Settings of the optimizer.
        rounds: Rounds.
        router_iterations: Batches of a round for the router; 0 leaves it as it was drawn.
        tuning_iterations: Batches of a round for the rest.
        hard: Weight of the best expert alone in the router's loss.
        smoothing: Share of its label that is spread over all experts.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update; each is a mean over its own tokens.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The student has no experts of such a teacher.
    """

    shardable: ClassVar[bool] = False

    def __init__(
        self,
        teacher: AutoregressiveModel,
        student: AutoregressiveModel,
        optimizer: Optimization,
        rounds: PositiveInt = 5,
        router_iterations: NonNegativeInt = 100,
        tuning_iterations: PositiveInt = 200,
        hard: Probability = 0.75,
        smoothing: Probability = 0.5,
        ema_half_life: float = 20.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        total = rounds * (router_iterations + tuning_iterations)
        super().__init__(total, {"student": optimizer}, accumulate, seed, max_non_finite)
        _check(teacher, student)
        self.add_frozen("teacher", teacher)
        self.student = student
        self.router_iterations, self.tuning_iterations = router_iterations, tuning_iterations
        self.hard, self.smoothing = hard, smoothing
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def turn(self) -> tuple[int, int, bool]:
        """The round, the batch in it, and whether the router is what learns."""
        number, position = divmod(self.iteration, self.router_iterations + self.tuning_iterations)
        return number, position, position < self.router_iterations

    def stage(self) -> tuple[int, int]:
        _, position, router = self.turn()
        if router:
            return position, self.router_iterations
        return position - self.router_iterations, self.tuning_iterations

    def describe_stage(self) -> str:
        number, _, router = self.turn()
        return f"round {number + 1}, {'router' if router else 'experts'}"

    def step(self, batch: Batch) -> None:
        tokens, scored = batch["tokens"], self.scored(batch)
        _, _, router = self.turn()
        if router:
            name, each = "routing", self.routing(self.student.begun(tokens[:, :-1]))
        else:
            name, each = "nll", next_token_nll(self.student(tokens), tokens)
        loss = joint_mean(each, scored.to(each.dtype))
        self.optimize("student", loss)
        self.report({name: loss.detach()})

    def routing(self, read: Tensor) -> Tensor:
        """The router's loss at tokens that are read (B, T), summed over layers, (B, T)."""
        student, teacher = self.student.network, self.get_submodule("teacher")
        assert isinstance(student, ExpertTransformer)
        assert isinstance(teacher, AutoregressiveModel)
        logits, losses = student.router(read), []
        units = hidden_units(dense(teacher), read)
        for experts, active in zip(student.perceptrons(), units, strict=True):
            law = expert_law(active, experts.masks)
            losses.append(routing_loss(logits, law, self.hard, self.smoothing))
        return torch.stack(losses).sum(dim=0)

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("student", AutoregressiveGenerator(self.ema.module))}

    def teacher_generator(self) -> TokenGenerator:
        return AutoregressiveGenerator(self.get_submodule("teacher"))


def _check(teacher: AutoregressiveModel, student: AutoregressiveModel) -> None:
    """The student's experts were cut out of such a teacher.

    Raises:
        InputError: They were not.
    """
    network = dense(teacher)
    if not isinstance(student.network, ExpertTransformer):
        raise InputError(
            "student: expected experts, as kdlight prune --experts cuts them, found "
            f"{type(student.network).__name__}."
        )
    wanted = [up.out_features for up, _ in perceptrons(network)]
    found = [each.masks.shape[1] for each in student.network.perceptrons()]
    if wanted != found:
        raise InputError(f"student: expected the teacher's units {wanted}, found {found}.")
