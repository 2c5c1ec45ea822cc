"""A small masked autoencoder learns the tokens of a large encoder from the same visible patches."""

from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.ranges import Probability
from kdlight.errors import InputError
from kdlight.losses.masked_images import (
    masked_pixel_error,
    normed_smooth_l1,
    patches_of,
    relation_kl,
    unit_l1,
)
from kdlight.networks.images.vit import Block, MaskedAutoencoder, TokenEncoder
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.vision.encoders import EncoderModule
from modules.vision.masked_autoencoding import visible_patches

FEATURE_LOSSES = {"unit_l1": unit_l1, "smooth_l1": normed_smooth_l1}


class MaskedDistillation(EncoderModule):
    """DMAE (Bai et al., arXiv:2208.12256) and the losses of Hybrid Distillation (2306.15876).

        loss = reconstruction * mean squared error of the pixels left out
               + features * distance(projector(student's block), teacher's block)
               + relations * mean over the last blocks of KL(relations of teacher || of student)

    The teacher reads the patches that the student sees, in the same order, through its first blocks
    alone: the released program runs all of it and its decoder, whose output no loss uses. What is
    hidden reaches no target.

    DMAE is ``reconstruction`` and ``features``, at three quarters of the depth. Hybrid Distillation
    has ``features`` with ``smooth_l1`` at the last block, of a contrastive or supervised teacher,
    and ``relations`` of queries with keys and of values with values, of a masked autoencoder; its
    program was never released, nor is its removal of redundant patches here.

    Args:
        teacher: Gives the tokens that are learnt from.
        student: Learns them; its encoder is what is kept.
        optimizer: Settings of the optimizer of student and projector.
        iterations: Training batches.
        mask_ratio: Share of the patches that is left out.
        reconstruction: Weight of the pixels.
        features: Weight of the teacher's tokens.
        relations: Weight of the relations.
        relation_teacher: Gives the relations; None for ``teacher``.
        relation_blocks: How many last blocks are compared.
        student_block: After how many blocks the student's tokens are taken; None for 3/4 of all.
        teacher_block: The same of the teacher.
        feature_loss: ``unit_l1`` of DMAE, or ``smooth_l1``.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Encoders of unlike patches, a block that is not there, no weight above 0, or
            nothing hidden for ``reconstruction`` to fill in.
    """

    def __init__(
        self,
        teacher: TokenEncoder,
        student: MaskedAutoencoder,
        optimizer: Optimization,
        iterations: int = 2000,
        mask_ratio: Probability = 0.75,
        reconstruction: float = 1.0,
        features: float = 1.0,
        relations: float = 0.0,
        relation_teacher: TokenEncoder | None = None,
        relation_blocks: int = 2,
        student_block: int | None = None,
        teacher_block: int | None = None,
        feature_loss: Literal["unit_l1", "smooth_l1"] = "unit_l1",
        ema_half_life: float = 100.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        weights = (reconstruction, features, relations)
        if min(weights) < 0 or not sum(weights):
            raise InputError(
                "reconstruction, features, relations: expected numbers of at least 0 that are not "
                f"all 0, found {weights}."
            )
        encoder = student.encoder
        for other in (teacher, relation_teacher or teacher):
            if other.patches != encoder.patches:
                raise InputError(
                    f"teacher: expected the student's {encoder.patches} patches, found "
                    f"{other.patches}."
                )
        related = relation_teacher or teacher
        if relations and not 1 <= relation_blocks <= min(encoder.depth, related.depth):
            raise InputError(
                f"relation_blocks: expected 1 to {min(encoder.depth, related.depth)}, found "
                f"{relation_blocks}."
            )
        self.visible = visible_patches(encoder.patches, mask_ratio)
        if reconstruction and self.visible == encoder.patches:
            raise InputError(
                "mask_ratio: expected one that hides a patch, which reconstruction fills in, found "
                f"{mask_ratio}; or reconstruction 0."
            )
        self.student_block = chosen_block("student_block", student_block, encoder.depth)
        self.teacher_block = chosen_block("teacher_block", teacher_block, teacher.depth)
        self.relation_blocks = relation_blocks
        self.reconstruction, self.features, self.relations = weights
        self.feature_loss = FEATURE_LOSSES[feature_loss]
        self.add_frozen("teacher", teacher)
        if relation_teacher is not None:
            self.add_frozen("relation_teacher", relation_teacher)
        self.student = student
        self.projector = nn.Linear(encoder.width, teacher.width)
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        image = batch["image"]
        encoder = self.student.encoder
        keep = self.kept(len(image), encoder.patches, self.visible)
        blocks = encoder.walk(image, keep)
        terms: dict[str, Tensor] = {}
        if self.reconstruction:
            predicted = self.student.decode(blocks[-1].tokens, keep)
            pixels = patches_of(image, encoder.patch_size)
            terms["reconstruction"] = masked_pixel_error(predicted, pixels, keep)
        if self.features:
            target = self.asked("teacher", image, keep, self.teacher_block)[-1].tokens
            own = self.projector(blocks[self.student_block - 1].tokens)
            terms["features"] = self.feature_loss(own, target)
        if self.relations:
            source = "relation_teacher" if "relation_teacher" in self.frozen else "teacher"
            terms["relations"] = self.related(blocks, self.asked(source, image, keep))
        weighed = [getattr(self, name) * value for name, value in terms.items()]
        self.optimize("student", torch.stack(weighed).sum())
        self.report({name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def asked(
        self, name: str, image: Tensor, keep: Tensor, until: int | None = None
    ) -> list[Block]:
        """Blocks of a teacher."""
        teacher = self.get_submodule(name)
        assert isinstance(teacher, TokenEncoder)
        return teacher.walk(image, keep, until)

    def related(self, own: list[Block], taught: list[Block]) -> Tensor:
        """Relations of queries with keys and of values with values, over the last blocks."""
        found = []
        last = -self.relation_blocks
        for one, other in zip(own[last:], taught[last:], strict=True):
            alike = one.queries.shape[1] == other.queries.shape[1]
            keys = relation_kl((one.queries, one.keys), (other.queries, other.keys), alike)
            values = relation_kl((one.values, one.values), (other.values, other.values), alike)
            found.append(keys + values)
        return torch.stack(found).mean()

    def trained(self, name: str) -> list[nn.Parameter]:
        """The student's parameters and the projector's."""
        return [*self.student.parameters(), *self.projector.parameters()]

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("student", self.ema.module)}

    def encoders(self) -> dict[str, TokenEncoder]:
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, TokenEncoder)
        return {"teacher": teacher, **super().encoders()}


def chosen_block(name: str, asked: int | None, depth: int) -> int:
    """A number of blocks, three quarters of all by default.

    Raises:
        InputError: There are not so many.
    """
    block = max(1, round(0.75 * depth)) if asked is None else asked
    if not 1 <= block <= depth:
        raise InputError(f"{name}: expected 1 to {depth}, found {block}.")
    return block
