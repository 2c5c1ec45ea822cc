"""Many calls of a masked model distilled into one (Hayakawa et al., Di4C, arXiv:2410.08709)."""

import math

import torch

from kdlight.core.whole import whole
from kdlight.discrete.components import ComponentDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.masking import mask_by_count, stratified_counts
from kdlight.discrete.samplers import first_hitting
from kdlight.errors import InputError
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule, check_sizes, chosen, copy_what_fits


class DimensionalCorrelations(TokenModule):
    """A student that is a mixture of products learns what its teacher writes in many calls.

    From a partly masked z the teacher's chain fills all masks, a few tokens a call; the student has
    to give the result its likelihood in one call:

        loss = -log mean over k of the product over masked l of p_student(x_l | z, k).

    The mean stands outside of the product: a student of one component, whose loss is a sum over
    positions, learns the teacher's marginals and no more, which it knew already. The paper moves z
    one teacher step and lets the student finish (consistency), and adds the likelihood of data;
    here the teacher's whole chain is the target, so that no term teaches the student itself.

    Args:
        teacher: The masked model as it samples.
        student: The mixture; weights that fit the teacher's are copied.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        together: Tokens that the teacher reveals in a call; 1 is exact.
        all_masked: Share of the rows that start from nothing but masks, as one-call sampling does;
            the others have 1 to L masks.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other vocabularies or lengths, or a number is out of
            range.
    """

    def __init__(
        self,
        teacher: TokenGenerator,
        student: ComponentDenoiser,
        optimizer: Optimization,
        iterations: int = 1500,
        together: int = 1,
        all_masked: float = 0.5,
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        check_sizes(teacher, student)
        if together < 1 or not 0 <= all_masked <= 1:
            raise InputError(
                "expected together of at least 1 and all_masked in [0, 1], found "
                f"{together} and {all_masked}."
            )
        self.add_frozen("teacher", teacher)
        self.student = student
        copy_what_fits(teacher.denoiser, student)
        self.together = together
        self.all_masked = all_masked
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def step(self, batch: Batch) -> None:
        tokens, mask = batch["tokens"], self.student.vocabulary
        count = stratified_counts(self.noise.stratified(len(tokens)), tokens.shape[1])
        blank = self.noise.uniform(len(tokens)) < self.all_masked
        count = torch.where(blank, tokens.shape[1], count)
        seen = mask_by_count(tokens, count, self.masked_uniform(tokens), mask)
        masked = seen == mask
        draws = RowDraws(self.noise.integers(len(tokens), 2**62), seed=0)
        teacher = self.get_teacher().denoiser
        with whole(teacher):  # ranks call it as often as their rows ask for
            written = first_hitting(teacher, seen, draws, self.together).tokens
        # Rows that start alike, as all do from nothing but masks, share their call.
        distinct, row = torch.unique(seen, dim=0, return_inverse=True)
        found = self.student.component_log_probs(distinct)[row]
        each = chosen(found.flatten(0, 1), _repeat(written, found), _repeat(masked, found))
        joint = each.reshape(found.shape[:3]).sum(dim=2).logsumexp(dim=1)
        bound = math.log(self.student.components) - joint
        loss = (bound / masked.sum(dim=1)).mean()
        self.optimize("student", loss)
        self.report({"likelihood": loss.detach()})

    def teacher_generator(self) -> TokenGenerator:
        return self.get_teacher()

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        return {"ema.module": ("student", TokenGenerator(self.ema.module, "ancestral", (1,)))}


def _repeat(rows: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Each of the rows (B, L) as often as ``found`` (B, K, L, V) has components."""
    return rows.repeat_interleave(found.shape[1], dim=0)
