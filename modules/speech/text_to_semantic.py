"""Pheme's T2S: phones to the first level of a codec's codes (arXiv:2401.02839)."""

from kdlight.core.ranges import PositiveInt
from kdlight.core.ranks import joint_mean
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.speech.spoken_codes import SpokenCodesModule


class TextToSemantic(SpokenCodesModule):
    """Cross-entropy of every next code, told all before it; the teacher is in the data.

    Pheme tunes its models on speech that a bigger system reads in one voice: the texts are known,
    and what the teacher says of them is learnt as if it were recorded. See ``teacher`` of
    :class:`~datamodules.speech.spoken_tokens.SpokenTokensDataModule`. The loss says nothing of
    loops and skipped words: look at the report's phone errors and lengths.

    Args:
        student: What is trained.
        optimizer: Settings of its optimizer.
        iterations: Length of the run in training batches.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        student: SemanticWriter,
        optimizer: Optimization,
        iterations: PositiveInt,
        accumulate: PositiveInt = 1,
        seed: int = 0,
        max_non_finite: PositiveInt = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        self.student: SemanticWriter = student

    def on_fit_start(self) -> None:
        self.check_codec(1)

    def step(self, batch: Batch) -> None:
        log_probs, scored = self.student(batch["text"], batch["codes"][:, 0], batch["frames"])
        loss = joint_mean(-log_probs, scored.to(log_probs))
        self.optimize("student", loss)
        self.report({"cross_entropy": loss.detach()})
