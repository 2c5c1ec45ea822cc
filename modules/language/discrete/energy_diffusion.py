"""Energy-based diffusion language models (Xu et al., EDLM, arXiv:2410.21357)."""

import torch

from kdlight.discrete.categorical import draw
from kdlight.discrete.energy import NeuralEnergy
from kdlight.discrete.energy_sampler import EnergyGenerator
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.masking import mask_by_count, stratified_counts
from kdlight.losses.energies import noise_contrastive
from kdlight.training.base import Batch
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization
from modules.language.base import TokenModule, chosen, copy_what_fits


class EnergyDiffusion(TokenModule):
    """An energy learns to tell data from what a frozen masked model fills in within one call.

        x- ~ mu(. | z),    loss = softplus(E(x, z)) + softplus(-E(x-, z))     (equation 10)

    Sampling then picks among several candidates a step. A checkpoint keeps the energy; whoever
    loads it reads the masked model from its own file. The energy of an autoregressive model
    needs no training: :func:`kdlight.teachers.tokens.energy_teacher`.

    Args:
        teacher: The masked model as it samples: the proposal mu, kept as it is.
        network: The energy; weights that fit the teacher's are copied.
        optimizer: Settings of its optimizer.
        iterations: Training batches.
        candidates: Sequences of a step to pick from, as the result samples.
        window: The share of the walk in which it does.
        ema_half_life: Half-life of the average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        teacher: TokenGenerator,
        network: torch.nn.Module,
        optimizer: Optimization,
        iterations: int = 2000,
        candidates: int = 8,
        window: float = 1.0,
        ema_half_life: float = 200.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        self.add_frozen("teacher", teacher)
        self.student = NeuralEnergy(teacher.denoiser, network)
        copy_what_fits(teacher.denoiser, self.student)
        self.ema = EMA(self.student, ema_half_life)
        self.average("student", self.ema)
        self.candidates = candidates
        self.window = window

    def step(self, batch: Batch) -> None:
        tokens, mask = batch["tokens"], self.student.vocabulary
        scored = self.scored(batch)
        count = stratified_counts(self.noise.stratified(len(tokens)), scored.sum(dim=1))
        uniform = self.masked_uniform(tokens).masked_fill(~scored, 2.0)
        seen = mask_by_count(tokens, count, uniform, mask)
        with torch.no_grad():
            log_probs = self.get_teacher().denoiser(seen)
            samples = draw(log_probs, self.noise.uniform(*tokens.shape))
        data, drawn = (
            self.student.energy(clean, seen, chosen(log_probs, clean, seen == mask).sum(dim=1))
            for clean in (tokens, samples)
        )
        loss = noise_contrastive(data, drawn).mean()
        self.optimize("student", loss)
        told = ((data < 0).float().mean() + (drawn > 0).float().mean()) / 2
        self.report({"contrast": loss.detach(), "told_apart": told})

    def teacher_generator(self) -> TokenGenerator:
        return self.get_teacher()

    def borrowed(self) -> dict[str, str]:
        return {"ema.module.proposal": "teacher.denoiser"}

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        steps = (self.student.length // 2,)
        student = EnergyGenerator(self.ema.module, self.candidates, self.window, steps)
        return {"ema.module": ("student", student)}
