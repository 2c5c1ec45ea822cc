"""The figures of a language model in every domain of its data."""

import lightning as L
import torch
from torch import Tensor, nn

from kdlight.callbacks.language.language_report import LanguageReport
from kdlight.callbacks.language.token_rows import Row
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.metrics.language.next_token import NextTokenFit
from kdlight.training.data import data_of

AT_ONCE = 250


class DomainReport(LanguageReport):
    """A :class:`~kdlight.callbacks.language.language_report.LanguageReport` with rows by domain.

    A row has ``golden_kl_<domain>`` where the domain's exact law is known, their mean as
    ``mean_golden_kl`` and the highest as ``worst_golden_kl``. The law knows the domain and the
    model has to find it out, so that none reaches 0; what it costs is the same for all models.
    """

    headline = (
        *("model", "worst_golden_kl", "mean_golden_kl", "acceptance", "block_efficiency", "ece"),
        *("perplexity", "ms_per_sample"),
    )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        data = data_of(trainer)
        if not hasattr(data, "laws"):
            raise InputError(
                "trainer.callbacks: DomainReport: expected data of several domains, found "
                f"{type(data).__name__}."
            )

    def _row(
        self,
        trainer: L.Trainer,
        name: str,
        generator: TokenGenerator,
        steps: int,
        device: torch.device,
    ) -> Row:
        row = super()._row(trainer, name, generator, steps, device)
        data = data_of(trainer)
        heldout, found = data.parts[1], {}
        for number, (domain, law) in enumerate(data.laws().items()):
            if law is None:
                continue
            own = heldout["domain"] == number
            tokens, mask = (heldout[key][own][: self.num_samples] for key in ("tokens", "mask"))
            found[domain] = golden_kl(generator.denoiser, law.to(device), tokens, mask, device)
        row |= {f"golden_kl_{domain}": value for domain, value in found.items()}
        if found:
            row["mean_golden_kl"] = sum(found.values()) / len(found)
            row["worst_golden_kl"] = max(found.values())
        return row


@torch.no_grad()
def golden_kl(
    model: nn.Module, law: nn.Module, tokens: Tensor, mask: Tensor, device: torch.device
) -> float:
    """Nats a token from the exact law to a model, over sentences (N, L)."""
    metric = NextTokenFit(True, False).to(device)
    training = model.training
    model.eval()
    for some, scored in zip(torch.split(tokens, AT_ONCE), torch.split(mask, AT_ONCE), strict=True):
        rows = some.long().to(device)
        metric.update(model(rows), rows, scored.to(device), law(rows), None)
    model.train(training)
    return float(metric.compute()["golden_kl"])
