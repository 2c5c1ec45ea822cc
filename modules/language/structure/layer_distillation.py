"""A model of every n-th layer learns states and attention of the whole one (BiStil, 2306.01709)."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from kdlight.core.ranges import NonNegativeFloat
from kdlight.core.ranks import joint_mean
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.losses.language.objective import Objective
from kdlight.losses.next_tokens import next_token_nll
from kdlight.networks.text.inside import Inside, inside, shown
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.next_token.logit_distillation import LogitDistillation


class LayerDistillation(LogitDistillation):
    """Distils layers into those of a model that has one for every f of them.

        loss = states * mean over k = 0..S of MSE(h_S[k], h_T[k f])
               + attention * mean over k = 0..S-1 of MSE(A_S[k], A_T[(k + 1) f - 1])
               + prediction * objective + likelihood * mean of -log student(x_t | x_<t)

    h[0] is the embedding. BiStil's first phase has the first two terms alone, on text of two
    languages; its second has the third too (T = 2 without its square), on a task that the teacher
    was tuned to. The student begins as the teacher's layers that it is to match: ``kdlight prune
    --keep layers=S --layers-by every``. States and attention are those of all tokens that are no
    padding, scored or not. The released code drops attention that is exactly 0, which drops what
    underflows as well; here what a token cannot see is left out.

    Args:
        teacher: A causal transformer, of kdlight or of transformers.
        student: One of the same width and heads.
        objective: What is said of outputs.
        optimizer: Settings of the student's optimizer.
        iterations: Training batches.
        states: Weight of the states.
        attention: Weight of the attention.
        prediction: Weight of the objective.
        kwargs: Of :class:`~modules.language.next_token.logit_distillation.LogitDistillation`.

    Raises:
        InputError: The teacher's layers are no multiple of the student's, or they are of other
            widths or numbers of heads, or a weight is below 0.
    """

    shardable: ClassVar[bool] = False

    def __init__(
        self,
        teacher: AutoregressiveModel,
        student: AutoregressiveModel,
        objective: Objective,
        optimizer: Optimization,
        iterations: int = 1000,
        states: NonNegativeFloat = 1.0,
        attention: NonNegativeFloat = 1.0,
        prediction: NonNegativeFloat = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(shown(teacher), shown(student), objective, optimizer, iterations, **kwargs)
        self.state_weight, self.attention_weight = states, attention
        self.prediction = prediction
        self.every = layers_for_one(teacher, student)

    def step(self, batch: Batch) -> None:
        tokens, scored, real = batch["tokens"], self.scored(batch), not_padding(batch)
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, AutoregressiveModel)
        with torch.no_grad():
            taught = inside(teacher, tokens)
        found = inside(self.student, tokens)
        terms = {
            "states": (self.state_weight, state_loss(found, taught, self.every, real)),
            "attention": (self.attention_weight, attention_loss(found, taught, self.every, real)),
        }
        if self.prediction:
            each = self.objective(found.logits, taught.logits, tokens, scored)
            terms["distillation"] = self.prediction, joint_mean(each, self.weights(scored))
        if self.likelihood:
            nll = next_token_nll(found.logits, tokens)
            terms["likelihood"] = self.likelihood, joint_mean(nll, self.weights(scored))
        self.optimize("student", torch.stack([w * term for w, term in terms.values()]).sum())
        self.report({name: term.detach() for name, (_, term) in terms.items()})


def not_padding(batch: Batch) -> Tensor:
    """Which tokens are no padding, (B, L) bool."""
    tokens: Tensor = batch["tokens"]
    if "lengths" not in batch:
        return torch.ones_like(tokens, dtype=torch.bool)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    real: Tensor = places < batch["lengths"][:, None]
    return real


def state_loss(student: Inside, teacher: Inside, every: int, real: Tensor) -> Tensor:
    """Mean over the student's layers of the MSE of its states with every ``every``-th, ()."""
    pairs = zip(student.states, teacher.states[::every], strict=True)
    each = torch.stack([(own - taught).square().mean(dim=2) for own, taught in pairs])
    return joint_mean(each.mean(dim=0), real.to(each.dtype))


def attention_loss(student: Inside, teacher: Inside, every: int, real: Tensor) -> Tensor:
    """The same of attention weights, over what each token sees, ()."""
    pairs = zip(student.attention, teacher.attention[every - 1 :: every], strict=True)
    each = torch.stack([(own - taught).square().mean(dim=1) for own, taught in pairs])
    seen = torch.ones_like(each[0]).tril() * real[:, :, None]
    return joint_mean(each.mean(dim=0), seen)


@torch.no_grad()
def layers_for_one(teacher: AutoregressiveModel, student: AutoregressiveModel) -> int:
    """How many layers of the teacher the student has one for.

    Raises:
        InputError: That is no whole number, or layers have other shapes.
    """
    one = torch.zeros(1, 2, dtype=torch.int64)
    old, new = (inside(each, one.to(next(each.parameters()).device)) for each in (teacher, student))
    depths = len(old.attention), len(new.attention)
    if depths[0] % depths[1]:
        raise InputError(
            f"student: expected a number of layers that divides the teacher's {depths[0]}, found "
            f"{depths[1]}."
        )
    shapes = [(each.states[0].shape[2], each.attention[0].shape[1]) for each in (old, new)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"student: expected the teacher's width and heads {shapes[0]}, found {shapes[1]}."
        )
    return depths[0] // depths[1]
