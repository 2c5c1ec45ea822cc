"""How well a language model answers: what it writes at the scored places of held-out rows."""

import time

import lightning as L
import torch
from torch import Tensor

from kdlight.callbacks.language.language_report import LanguageReport
from kdlight.callbacks.language.token_rows import Row
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.generator import TokenGenerator
from kdlight.training.data import tokens_of

OWNER = "trainer.callbacks: AnswerReport"


class AnswerReport(LanguageReport):
    """A :class:`~kdlight.callbacks.language.language_report.LanguageReport` of questions.

    The places of held-out rows that are not scored are given, and the model writes the others, the
    likeliest token one by one. A row has ``answer_accuracy``, the share of scored tokens that are
    right, ``exact_match``, the share of rows without a wrong one, ``ms_per_sample`` of that
    writing, and the figures of the next tokens; sentences without a question are not written.
    """

    headline = (
        *("model", "answer_accuracy", "exact_match", "proxy_kl", "acceptance", "perplexity"),
        "ms_per_sample",
    )

    def _row(
        self,
        trainer: L.Trainer,
        name: str,
        generator: TokenGenerator,
        steps: int,
        device: torch.device,
    ) -> Row:
        held = tokens_of(trainer, OWNER).parts[1]
        tokens, mask = (held[key][: self.num_samples].to(device) for key in ("tokens", "mask"))
        tokens, model = tokens.long(), generator.denoiser
        assert isinstance(model, NextTokenModel)
        training = generator.training
        generator.eval()
        before = time.perf_counter()
        cut = (torch.split(each, self.batch_size) for each in (tokens, mask))
        parts = zip(*cut, strict=True)
        written = torch.cat([answered(model, *part) for part in parts])
        spent = time.perf_counter() - before
        generator.train(training)
        right = torch.eq(written, tokens)
        return {
            "model": name,
            "steps": steps,
            "algorithm": generator.algorithm,
            "nfe": float(mask.sum()) / len(mask),
            "answer_accuracy": float(right[mask].double().mean()),
            "exact_match": float((right | ~mask).all(dim=1).double().mean()),
            "ms_per_sample": 1000 * spent / len(tokens),
        } | self._laws(trainer, generator, 1, self.num_samples)


@torch.no_grad()
def answered(model: NextTokenModel, tokens: Tensor, asked: Tensor) -> Tensor:
    """Rows with their asked places written anew, the likeliest token one by one, (B, L).

    Args:
        model: Writes.
        tokens: (B, L) int64; what stands at asked places is not looked at.
        asked: (B, L) bool.
    """
    written = tokens.masked_fill(asked, 0)
    for place in asked.any(dim=0).nonzero().flatten().tolist():
        rows = asked[:, place]
        logits = model.following(written[rows, :place])
        written[rows, place] = logits.argmax(dim=1)
    return written
