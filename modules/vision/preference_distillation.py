"""A writer of captions mimics a teacher, then learns which of two captions is the better one."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat
from kdlight.errors import InputError
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.next_tokens import next_token_nll
from kdlight.losses.preference import answer_log_prob, balance_loss, preference_loss
from kdlight.networks.images.captioner import Captioner, CaptionWriter, Written
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class PreferenceDistillation(DistillationModule):
    """LLaVA-MoD (Shu et al., arXiv:2408.15881): mimic, then preference with the teacher in view.

        mimicry    = distillation * mean over words of KL(teacher || student)
                     + language * -log student(caption) + balance * balance of the experts
        preference = kept * mimicry - log sigmoid(beta [log student/teacher (better)
                                                        - log student/teacher (worse)])

    for ``mimic_iterations``, and then to the end. The reference is the teacher, whom the student
    shall surpass where it errs; as such a loss says nothing of other words, mimicry is kept. KL,
    not the cross-entropy of the released program, whose floor is the teacher's entropy. Its script
    takes another loss by default (KTO of pairs); here is the text's.

    Controls: ``preference: 0`` is mimicry alone; that with ``distillation: 0`` is fine-tuning on
    the better captions.

    Args:
        teacher: Mimicked, and the reference: a captioner, or a vision-language model of
            transformers (:class:`~kdlight.teachers.vision_language.VisionLanguageTeacher`).
        student: Dense, or with experts
            (:func:`~kdlight.teachers.captioners.upcycled_captioner`).
        optimizer: Settings of its optimizer; its schedule restarts with the second stage.
        mimic_iterations: Training batches of the first stage.
        iterations: Training batches of both.
        distillation: Weight of the divergence.
        language: Weight of the captions' likelihood.
        balance: Weight of the experts' balance.
        preference: Weight of the preference.
        kept: Weight of mimicry in the second stage.
        beta: How dear it is to leave the teacher.
        ema_half_life: Half-life of the student's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: Teacher and student have other words, or no stage is left; or, before training
            starts, the data have others.
    """

    def __init__(
        self,
        teacher: CaptionWriter,
        student: Captioner,
        optimizer: Optimization,
        mimic_iterations: NonNegativeInt = 1000,
        iterations: int = 1500,
        distillation: NonNegativeFloat = 1.0,
        language: NonNegativeFloat = 1.0,
        balance: NonNegativeFloat = 0.01,
        preference: NonNegativeFloat = 1.0,
        kept: NonNegativeFloat = 1.0,
        beta: PositiveFloat = 0.1,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        for size in ("vocabulary", "length"):
            if getattr(teacher, size) not in (None, getattr(student, size)):
                raise InputError(
                    f"student: expected the teacher's {size} {getattr(teacher, size)}, found "
                    f"{getattr(student, size)}."
                )
        if mimic_iterations > iterations:
            raise InputError(
                f"mimic_iterations: expected at most the {iterations} iterations, found "
                f"{mimic_iterations}."
            )
        self.add_frozen("teacher", teacher)
        self.student = student
        self.mimic_iterations = mimic_iterations
        self.distillation, self.language, self.balance = distillation, language, balance
        self.preference, self.kept, self.beta = preference, kept, beta
        self.ema = EMA(student, ema_half_life)
        self.average("student", self.ema)

    def setup(self, stage: str) -> None:
        words = getattr(data_of(self.trainer), "words", None)
        if words is not None and len(words) != self.student.vocabulary:
            raise InputError(
                f"student: expected a vocabulary of the data's {len(words)} words, found "
                f"{self.student.vocabulary}."
            )
        known = self.get_submodule("teacher").known_words
        if words is not None and known is not None and known != words:
            raise InputError(f"teacher: expected the data's words {words}, found {known}.")

    @property
    def prefers(self) -> bool:
        """Whether this is the second stage."""
        return self.iteration >= self.mimic_iterations

    def stage(self) -> tuple[int, int]:
        if self.prefers:
            first = self.mimic_iterations
            return self.iteration - first, self.iterations - first
        return self.iteration, self.mimic_iterations

    def describe_stage(self) -> str:
        return "preference" if self.prefers else "mimicry"

    def step(self, batch: Batch) -> None:
        image, tokens = batch["image"], batch["tokens"]
        own, said = self.student(image, tokens), self.reference(image, tokens)
        laws = (each.float().log_softmax(dim=2) for each in (said, own.logits))
        terms = {
            "distillation": forward_kl(*laws).mean(),
            "language": next_token_nll(own.logits, tokens).mean(),
            "balance": balance_of(own),
        }
        loss = torch.stack([getattr(self, name) * value for name, value in terms.items()]).sum()
        if self.prefers:
            worse = batch["worse"]
            other, named = self.student(image, worse), self.reference(image, worse)
            ahead = self.gain(own.logits, said, tokens), self.gain(other.logits, named, worse)
            terms["preference"] = preference_loss(*ahead, self.beta).mean()
            terms["right"] = (ahead[0] > ahead[1]).float().mean()
            loss = self.kept * loss + self.preference * terms["preference"]
        self.optimize("student", loss)
        self.report({name: value.detach() for name, value in terms.items()})

    @torch.no_grad()
    def reference(self, image: Tensor, tokens: Tensor) -> Tensor:
        """The teacher's logits."""
        logits: Tensor = self.get_submodule("teacher")(image, tokens).logits
        return logits

    @staticmethod
    def gain(own: Tensor, said: Tensor, tokens: Tensor) -> Tensor:
        """How much likelier captions are than under the teacher, in nats, (B,)."""
        every = torch.ones_like(tokens, dtype=torch.bool)
        return answer_log_prob(own, tokens, every) - answer_log_prob(said, tokens, every)

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("student", self.ema.module)}


def balance_of(written: Written) -> Tensor:
    """Mean over the blocks with experts of their balance; 0 without."""
    if not written.routings:
        return written.logits.new_zeros(())
    return torch.stack([balance_loss(*each) for each in written.routings]).mean()
