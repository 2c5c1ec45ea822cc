"""Training of a diffusion speech synthesiser: ProDiff's teacher (arXiv:2207.06389, section 3.2)."""

from typing import Literal

import torch
from torch import Tensor

from kdlight.diffusion.denoisers import Condition, expand
from kdlight.losses.synthesis import masked_error
from kdlight.networks.speech.front_end import PITCH_SPREAD, Told
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.speech.synthesis import SynthesisModule, weights_of


class SynthesisTraining(SynthesisModule):
    """A denoiser that predicts clean spectrograms at a few noise levels, and its front end.

    Levels are those that the synthesiser samples at and no others; each is as likely. The released
    program averages its errors over padding too; here padding has no part in any mean.

    Args:
        model: The synthesiser to train, new or a trained one that goes on; its first step count
            says the levels.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        weights: Of each term: ``mel`` and ``ssim`` of the spectrogram (1 and 1), ``duration``,
            ``pitch`` and ``energy`` (0.1 each).
        ema_half_life: Half-life of the average that is kept, in updates; the paper has none.
        name: What the checkpoint and the report call it.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        model: Synthesiser,
        optimizer: Optimization,
        iterations: int = 200_000,
        weights: dict[str, float] | None = None,
        ema_half_life: float = 200.0,
        name: Literal["teacher", "student"] = "teacher",
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"model": optimizer}, accumulate, seed, max_non_finite)
        known = {"mel": 1.0, "ssim": 1.0, "duration": 0.1, "pitch": 0.1, "energy": 0.1}
        self.weights = weights_of(weights, known)
        self.levels = model.grid.sigmas(model.steps[0])[:-1]
        self.model = model.requires_grad_(True)
        self._name = name
        self.ema = EMA(model, ema_half_life)
        self.average("model", self.ema)

    def on_fit_start(self) -> None:
        """Measure the training speech once in a run's life: the scale of bands, and the voices."""
        data = self.check_data(self.model)
        if self.model.table.any():
            return
        self.model.log_mel.learn(each.read() for each in data.training_utterances())
        voices = [self.model.describe(said) for said in data.training_sentences().values()]
        self.model.table.copy_(torch.stack(voices))

    def step(self, batch: Batch) -> None:
        x0, condition = self.prepare(batch, self.model)
        mask = condition["mask"]
        told = self.model.front_end(condition)
        level = self.noise.integers(len(x0), len(self.levels))
        sigma = self.levels.to(x0.device)[level]
        x = x0 + expand(sigma, x0).to(x0.dtype) * self.noise.normal(x0)
        estimate = self.model.denoiser(x, sigma, {"frames": told.frames, "mask": mask})
        terms = self.reconstruction(estimate, x0, mask) | self.variance(told, condition)
        self.optimize("model", torch.stack([*terms.values()]).sum())
        self.report({name: term.detach() for name, term in terms.items()})

    def variance(self, told: Told, condition: Condition) -> dict[str, Tensor]:
        """The front end's own terms (section 3.3): what it has to know when it speaks."""
        phones, mask = condition["phones"] > 0, condition["mask"]
        lasts = (condition["durations"] + 1).float().log()
        pitch = (condition["pitch"] - condition["speaker"][:, -1:]) / PITCH_SPREAD
        terms = {
            "duration": masked_error(told.log_durations, lasts, phones),
            "pitch": masked_error(told.pitch, pitch, mask),
            "energy": masked_error(told.energy, condition["energy"], mask),
        }
        return {name: self.weights[name] * term for name, term in terms.items()}

    def synthesisers(self) -> dict[str, tuple[str, Synthesiser]]:
        return {"ema.module": (self._name, self.ema.module)}
