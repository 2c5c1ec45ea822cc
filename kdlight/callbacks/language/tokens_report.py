"""Runs the metrics of token generators when training ends."""

from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import lightning as L
import torch
from rich.console import Console

from kdlight.callbacks.language.token_rows import Row, heldout_figures, token_row
from kdlight.callbacks.language.written import walk_of, write_walks
from kdlight.core.ranged import Ranged
from kdlight.core.ranges import NonNegativeInt, PositiveInt, Range
from kdlight.discrete.generator import MaskedAlgorithm, TokenGenerator
from kdlight.discrete.samplers import TokenSample
from kdlight.errors import InputError
from kdlight.report.table import summary_table
from kdlight.storage.files import write_json
from kdlight.training.data import tokens_of

HEADLINE = (
    "model",
    "steps",
    "nfe",
    "nll",
    "nll_floor",
    "bigram_tv",
    "bigram_tv_floor",
    "entropy",
    "entropy_floor",
    "heldout_nll",
    "speed_up",
)


@runtime_checkable
class WritesTokens(Protocol):
    """A method that ends in token generators."""

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        """Names and generators, by the state-dict prefix of their denoisers."""

    def teacher_generator(self) -> TokenGenerator | None:
        """The teacher at full quality, if there is one."""


class TokenReport(Ranged, L.Callback):
    """Quality over network calls of what a run trains.

    When training ends (and for ``test``): one row per model, sampler and number of steps over
    ``num_samples`` sentences, judged by what the data offer (for an oracle language the exact
    likelihood beside the language's own, and pairs of tokens), with the calls that were measured,
    and ``heldout_nll`` of the held-out part under the model, a bound of it for a masked one;
    printed, and written to ``summary.json``. A few samples go to ``samples/tokens.json`` with the
    order in which their tokens were revealed.

    Args:
        num_samples: Sentences of a row.
        steps: Numbers of steps of the parallel samplers.
        algorithms: Samplers beside a model's own, which is walked once, in its own number of steps.
        batch_size: Sentences at once.
        seed: Seed of the evaluation, the same for every run that is to be compared.
        shown: Samples of a row that are kept for the report.

    Raises:
        InputError: Too few samples, a step below 1; or, before training starts, a method that
            writes no tokens.
    """

    headline: tuple[str, ...] = HEADLINE

    def __init__(
        self,
        num_samples: Annotated[int, Range(2)] = 4000,
        steps: list[PositiveInt] = [16, 8, 4, 2, 1],  # noqa: B006 - never changed
        algorithms: list[MaskedAlgorithm] = ["ancestral"],  # noqa: B006 - never changed
        batch_size: PositiveInt = 1000,
        seed: int = 1234,
        shown: NonNegativeInt = 4,
    ) -> None:
        if not steps:
            raise InputError("steps: expected at least one number, found none.")
        self.num_samples = num_samples
        self.steps = sorted(set(steps), reverse=True)
        self.algorithms = algorithms
        self.batch_size = batch_size
        self.seed = seed
        self.shown = shown
        self._walks: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(pl_module, WritesTokens):
            raise InputError(
                "trainer.callbacks: TokenReport: expected a method that ends in token generators, "
                f"found {type(pl_module).__name__}."
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._summarise(trainer, pl_module)

    def _summarise(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, WritesTokens)
        folder = trainer.log_dir  # a collective: every rank asks, and once
        if not trainer.is_global_zero:
            return
        models = list(pl_module.generators().values())
        teacher = pl_module.teacher_generator()
        if teacher is not None:
            models.insert(0, ("teacher", teacher))
        self._walks = []
        rows = []
        for name, model in models:
            known = self._likelihood(trainer, model, pl_module.device)
            for generator, steps in model.walks(self.algorithms, self.steps):
                rows.append(self._row(trainer, name, generator, steps, pl_module.device) | known)
        for row in rows if "ms_per_sample" in rows[0] else []:
            row["speed_up"] = rows[0]["ms_per_sample"] / row["ms_per_sample"]
        if folder:
            write_json(Path(folder) / "summary.json", rows)
            write_walks(Path(folder), self._walks)
            shown = [{key: row[key] for key in self.headline if key in row} for row in rows]
            console = Console()
            (console if console.is_terminal else Console(width=140)).print(summary_table(shown))

    def _likelihood(self, trainer: L.Trainer, model: TokenGenerator, device: torch.device) -> Row:
        """Nats a token of the held-out part; the data of this process are all of it."""
        if not model.has_likelihood:
            return {}
        data = tokens_of(trainer, "trainer.callbacks: TokenReport")
        found = heldout_figures(model.denoiser, data.parts[1], self.batch_size, device)
        return {"heldout_nll": found["heldout_nll"]}

    def _row(
        self,
        trainer: L.Trainer,
        name: str,
        generator: TokenGenerator,
        steps: int,
        device: torch.device,
    ) -> Row:
        data = tokens_of(trainer, "trainer.callbacks: TokenReport")
        first: list[TokenSample] = []
        row = token_row(
            name,
            generator,
            steps,
            data.judges(),
            self.num_samples,
            self.batch_size,
            self.seed,
            device,
            lambda sample: None if first else first.append(sample),
        )
        self._walks.append(walk_of(row, first[0], data.tokenizer, self.shown))
        return row
