"""Attention becomes a state space, layer by layer, then as a whole (MOHAWK, arXiv:2408.10189)."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from kdlight.core.ranges import NonNegativeInt
from kdlight.core.ranks import joint_mean
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.losses.language.mixers import matrix_distance, state_distance
from kdlight.losses.language.objective import Objective
from kdlight.networks.text.state_space import StateSpaceBlock, StateSpaceModel, start_as_attention
from kdlight.networks.text.token_transformer import TokenTransformer, TransformerBlock
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.language.base import copy_what_fits
from modules.language.next_token.logit_distillation import LogitDistillation


class MOHAWK(LogitDistillation):
    """Teaches the mixers of a network with attention to one with state spaces, in three stages.

    1. Matrices: every layer reads the teacher's state of its depth, and its mixing matrix learns
       the attention of that depth. Gate and outer projection have no part in it.
    2. States: every mixer reads the same, and what the teacher's block makes of it learns the
       teacher's next state. No layer sees another's error.
    3. Outputs: the whole network learns the teacher's next-token law.

    In the first two only mixers are trained, as norms, perceptrons, embedding and head are the
    teacher's, copied when training starts; the paper leaves them frozen or not. Every stage begins
    with a fresh optimizer and its schedule. Without the first two it is distillation of a network
    that keeps all but the mixers.

    Args:
        teacher: A causal transformer.
        student: A state-space model of the same numbers.
        objective: What the third stage minimises; the paper's is the forward KL.
        optimizer: Settings of the student's optimizer; its schedule spans each stage.
        iterations: Training batches of all stages.
        matrix_iterations: Those of the first stage.
        state_iterations: Those of the second.
        kwargs: Of :class:`~modules.language.next_token.logit_distillation.LogitDistillation`.

    Raises:
        InputError: The networks are no such pair, or nothing is left for the third stage.
    """

    shardable: ClassVar[bool] = False

    def __init__(
        self,
        teacher: AutoregressiveModel,
        student: AutoregressiveModel,
        objective: Objective,
        optimizer: Optimization,
        iterations: int = 300,
        matrix_iterations: NonNegativeInt = 30,
        state_iterations: NonNegativeInt = 90,
        **kwargs: Any,
    ) -> None:
        _begin(teacher, student)
        super().__init__(teacher, student, objective, optimizer, iterations, **kwargs)
        if matrix_iterations + state_iterations >= iterations:
            raise InputError(
                f"matrix_iterations, state_iterations: expected less than the {iterations} "
                f"iterations together, found {matrix_iterations} and {state_iterations}."
            )
        # Where each stage begins.
        self.starts = {
            "matrices": 0,
            "states": matrix_iterations,
            "outputs": matrix_iterations + state_iterations,
        }

    def describe_stage(self) -> str:
        return [name for name, start in self.starts.items() if start <= self.iteration][-1]

    def stage(self) -> tuple[int, int]:
        start = self.starts[self.describe_stage()]
        end = min((each for each in self.starts.values() if each > start), default=self.iterations)
        return self.iteration - start, end - start

    def after_iteration(self) -> None:
        if self.stage()[0] == 0:
            self.forget_optimizer("student")

    def step(self, batch: Batch) -> None:
        stage, scored = self.describe_stage(), self.scored(batch)
        if stage == "outputs":
            super().step(batch)
            return
        inputs, angles = self.teacher_states(batch["tokens"])
        losses = []
        for mixer, block, given, wanted in self.layers(inputs):
            with torch.no_grad():
                normed = block.attention_norm(given)
            if stage == "matrices":
                attention = block.mixing_matrix(normed, angles).detach()
                each = matrix_distance(mixer.matrix(normed), attention, scored)
                losses.append(joint_mean(each, torch.ones_like(each)))
            else:
                each = state_distance(block.fed(given + mixer(normed)), wanted)
                losses.append(joint_mean(each, scored.to(each.dtype)))
        loss = torch.stack(losses).sum()
        self.optimize("student", loss)
        self.report({stage: loss.detach()})

    def layers(self, states: list[Tensor]) -> list[tuple[Any, Any, Tensor, Tensor]]:
        """Of every depth the student's mixer, the teacher's block, and its states around it."""
        student, teacher = self.student.network, self.get_submodule("teacher.network")
        assert isinstance(student, StateSpaceModel)
        assert isinstance(teacher, TokenTransformer)
        mixers = [block.mixer for block in student.blocks]
        return list(zip(mixers, teacher.blocks, states[:-1], states[1:], strict=True))

    @torch.no_grad()
    def teacher_states(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        """The teacher's states (B, T, width) before each block and behind the last; its angles."""
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, AutoregressiveModel)
        network = teacher.network
        assert isinstance(network, TokenTransformer)
        read = teacher.begun(tokens[:, :-1])
        angles, states = network.angles(read), [network.embedding(read)]
        for block in network.blocks:
            states.append(block(states[-1], angles))
        return states, angles


def _begin(teacher: AutoregressiveModel, student: AutoregressiveModel) -> None:
    """The student starts as the teacher in all that is no mixer, and in the mixers' projections.

    Raises:
        InputError: They are no pair of the same numbers.
    """
    old, new = (getattr(model, "network", None) for model in (teacher, student))
    if not (isinstance(old, TokenTransformer) and all(block.causal for block in old.blocks)):
        raise InputError(
            f"teacher: expected a causal TokenTransformer, found {type(old or teacher).__name__}."
        )
    if not isinstance(new, StateSpaceModel):
        raise InputError(
            f"student: expected a StateSpaceModel, found {type(new or student).__name__}."
        )
    shapes = [
        {name: tuple(each.shape) for name, each in network.state_dict().items()}
        for network in (old, new)
    ]
    for name, shape in shapes[0].items():
        found = shapes[1].get(name.replace(".qkv.", ".mixer.qkv.").replace(".pro", ".mixer.pro"))
        if found != shape:
            raise InputError(f"student: {name}: expected the teacher's {shape}, found {found}.")
    if len(old.blocks) != len(new.blocks):
        raise InputError(
            f"student: expected a depth of {len(old.blocks)}, found {len(new.blocks)}."
        )
    copy_what_fits(old, new)
    for block, attending in zip(new.blocks, old.blocks, strict=True):
        assert isinstance(block, StateSpaceBlock)
        assert isinstance(attending, TransformerBlock)
        start_as_attention(block.mixer, attending)
