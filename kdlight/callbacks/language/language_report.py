"""Runs the metrics of models of next tokens: while they train, and when training ends."""

import math
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor, nn

from kdlight.callbacks.language.token_rows import Row
from kdlight.callbacks.language.tokens_report import TokenReport, WritesTokens
from kdlight.core.memory import rows_within
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.metrics.language.calibration import fitted_temperature
from kdlight.metrics.language.next_token import NextTokenFit
from kdlight.report.hacking import judge_curves
from kdlight.speculative.decoding import speculate
from kdlight.training.base import DistillationModule
from kdlight.training.data import tokens_of

OWNER = "trainer.callbacks: LanguageReport"
AT_ONCE = 250
"""Sentences of a call, the most."""


class LanguageReport(TokenReport):
    """Quality of the models of next tokens that a run trains, and of its teacher.

    When training ends (and for ``test``): one row a model, over held-out sentences
    (:class:`~kdlight.metrics.language.next_token.NextTokenFit`: the exact divergence from the truth
    where the data know it, the divergence from the teacher, calibration, perplexity) and over
    ``num_samples`` sentences that it writes, judged by what the data offer; printed, and written to
    ``summary.json``. At every validation the same of the trained model over ``preview`` held-out
    sentences is logged as ``val/<figure>``, with ``val/train_proxy_kl`` over training sentences;
    and if the truth has become further away while the teacher came nearer, that is said
    (:mod:`kdlight.report.hacking`). A student's row has ``block_efficiency``, the tokens that a
    call of the teacher gives when the student drafts ``block`` tokens for it.

    Args:
        num_samples: Sentences that are written for a row; 0 for none, as a large model writes one
            token a call: then a row is what it says of held-out sentences.
        preview: Held-out sentences at a validation; 0 for none.
        batch_size: Sentences written at once.
        block: Tokens that a student drafts for a call of its teacher.
        seed: Seed of the evaluation, the same for every run that is to be compared.
        heldout: The most sentences that are held out; None for ``num_samples``.

    Raises:
        InputError: A number is out of range, or no sentence is held out; or, before training
            starts, a method without models of next tokens, or data without sentences.
    """

    headline: tuple[str, ...] = (
        *("model", "golden_kl", "proxy_kl", "acceptance", "block_efficiency", "ece", "perplexity"),
        *("nll", "nll_floor", "ms_per_sample", "parameters"),
    )

    def __init__(
        self,
        num_samples: NonNegativeInt = 4000,
        preview: NonNegativeInt = 500,
        batch_size: int = 1000,
        block: PositiveInt = 4,
        seed: int = 1234,
        heldout: PositiveInt | None = None,
    ) -> None:
        super().__init__(num_samples or 2, batch_size=batch_size, seed=seed)
        if not num_samples and heldout is None:
            raise InputError("heldout: expected a number where num_samples is 0, found None.")
        self.num_samples = num_samples
        self.heldout = num_samples if heldout is None else heldout
        self.preview = preview
        self.block = block
        self.golden: list[float] = []
        self.proxy: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """The curves so far, which a resumed run goes on with."""
        return {"golden": self.golden, "proxy": self.proxy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.golden, self.proxy = list(state_dict["golden"]), list(state_dict["proxy"])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, WritesTokens)
        for _, generator in pl_module.generators().values():
            if not isinstance(generator.denoiser, NextTokenModel):
                raise InputError(
                    f"{OWNER}: expected a method that ends in models of next tokens, found a "
                    f"{type(generator.denoiser).__name__}."
                )
        tokens_of(trainer, OWNER)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not self.preview:
            return
        assert isinstance(pl_module, DistillationModule)
        assert isinstance(pl_module, WritesTokens)
        _, generator = next(iter(pl_module.generators().values()))
        figures = self._laws(trainer, generator, 1, self.preview)
        if pl_module.teacher_generator() is not None:
            training = self._laws(trainer, generator, 0, self.preview)
            figures["train_proxy_kl"] = training["proxy_kl"]
        if {"golden_kl", "proxy_kl"} <= figures.keys():
            figures["hacked"] = float(self._judged(figures, trainer, pl_module.iteration))
        logged = {f"val/{key}": value for key, value in figures.items()}
        logged["iteration"] = float(pl_module.iteration)
        pl_module.log_dict(logged, rank_zero_only=True)

    def _judged(self, figures: dict[str, float], trainer: L.Trainer, iteration: int) -> bool:
        """Whether the student has begun to copy its teacher's faults; said once."""
        before = len(self.golden) > 0 and judge_curves(self.golden, self.proxy).verdict == "hacked"
        self.golden.append(figures["golden_kl"])
        self.proxy.append(figures["proxy_kl"])
        now = judge_curves(self.golden, self.proxy)
        if now.verdict == "hacked" and not before and trainer.is_global_zero:
            best = self.golden[now.best]
            Console(stderr=True, soft_wrap=True, highlight=False).print(
                f"Teacher hacking at iteration {iteration}: the divergence from the truth has "
                f"risen from {best:.4f} to {self.golden[-1]:.4f} while that from the teacher "
                "fell. More prompts help, or sequences that are written anew "
                "(OnPolicyDistillation); more updates do not."
            )
        return now.verdict == "hacked"

    def _likelihood(self, trainer: L.Trainer, model: TokenGenerator, device: torch.device) -> Row:
        """Of all that is held out, unless the row's own sentences say it."""
        return super()._likelihood(trainer, model, device) if self.num_samples else {}

    def _row(
        self,
        trainer: L.Trainer,
        name: str,
        generator: TokenGenerator,
        steps: int,
        device: torch.device,
    ) -> Row:
        row: Row = {"model": name, "steps": steps, "algorithm": generator.algorithm}
        if self.num_samples:
            row = super()._row(trainer, name, generator, steps, device)
        row["parameters"] = sum(each.numel() for each in generator.parameters())
        row |= self._laws(trainer, generator, 1, self.heldout)
        row.setdefault("heldout_nll", math.log(row["perplexity"]))
        row["fitted_temperature"] = self._temperature(trainer, generator, device)
        taught = trainer.lightning_module
        assert isinstance(taught, WritesTokens)
        teacher = taught.teacher_generator()
        if self.num_samples and teacher is not None and "proxy_kl" in row:
            row["block_efficiency"] = self._block_efficiency(teacher, generator, device)
        return row

    @torch.no_grad()
    def _temperature(
        self, trainer: L.Trainer, generator: TokenGenerator, device: torch.device
    ) -> float:
        """What the model's logits are to be divided by, over a call's held-out sentences."""
        data = tokens_of(trainer, OWNER)
        some = min(_at_once(generator), self.heldout)
        tokens, mask = (data.parts[1][key][:some].to(device) for key in ("tokens", "mask"))
        logits = _asked(generator.denoiser, tokens)
        return fitted_temperature(logits[mask], tokens[mask].long())

    def _block_efficiency(
        self, teacher: TokenGenerator, student: TokenGenerator, device: torch.device
    ) -> float:
        """Tokens of a call of the teacher for which the student drafts, over ``preview`` rows."""
        assert isinstance(teacher.denoiser, NextTokenModel)
        assert isinstance(student.denoiser, NextTokenModel)
        count = max(1, self.preview)
        start = torch.zeros(count, 0, dtype=torch.int64, device=device)
        draws = RowDraws(torch.arange(count, device=device), self.seed)
        length = teacher.length
        written = speculate(teacher.denoiser, student.denoiser, start, length, draws, self.block)
        return written.block_efficiency

    @torch.no_grad()
    def _laws(
        self, trainer: L.Trainer, generator: TokenGenerator, part: int, count: int
    ) -> dict[str, float]:
        """Figures over the first ``count`` sentences of a part of the data."""
        data = tokens_of(trainer, OWNER)
        method = trainer.lightning_module
        device = method.device
        assert isinstance(method, WritesTokens)
        taught = method.teacher_generator()
        teacher = None if taught is None or taught.denoiser is generator.denoiser else taught
        law = data.law()
        truth = law.to(device) if isinstance(law, nn.Module) else None
        metric = NextTokenFit(truth is not None, teacher is not None).to(device)
        tokens, mask = (data.parts[part][key][:count].to(device) for key in ("tokens", "mask"))
        for some, scored in zip(
            *(torch.split(each, _at_once(generator)) for each in (tokens, mask)), strict=True
        ):
            metric.update(
                _asked(generator.denoiser, some),
                some,
                scored,
                None if truth is None else truth(some),
                None if teacher is None else _asked(teacher.denoiser, some),
            )
        figures = metric.compute()
        return {key: float(figures[key]) for key in metric.names}


def _at_once(generator: TokenGenerator) -> int:
    """Sentences of a call."""
    return rows_within(AT_ONCE, generator.length * generator.vocabulary)


def _asked(model: nn.Module, tokens: Tensor) -> Tensor:
    """Logits of a model in evaluation mode, which it leaves as it was."""
    training = model.training
    logits: Tensor = model.eval()(tokens)
    model.train(training)
    return logits
