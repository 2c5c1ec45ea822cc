"""RobustGER: lists of hypotheses corrected, the noise of the audio distilled (arXiv:2401.10446)."""

from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.core.frozen import held
from kdlight.core.ranks import joint_average, joint_other, joint_rows
from kdlight.errors import InputError
from kdlight.losses.mutual_information import dv_bound, mine_surrogate
from kdlight.networks.text.corrector import Corrector, PairCritic
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of
from kdlight.training.optim import Optimization


class NoiseAwareCorrection(DistillationModule):
    """A corrector learns sentences of 5-best lists, and of a recogniser's encoder how noise sounds.

    How far hypotheses differ tells the noise; T maps that difference E to vectors that are taken
    from the corrector's prompt. MINE makes T(E) say what the encoder's states of noisy audio say.
    The audio is there in training alone.

    The released program differs in more than one way from MINE: its critic ends in a sigmoid and
    there is no logarithm, so it reaches the total variation of two sets of pairs and no
    information; the critic learns on E behind a layer that is left out when T is judged; and the
    pairs that it is to tell apart are one utterance's noisy and its *clean* audio, which it can do
    without a look at E. Here the critic sees T(E) always, and ``negatives`` says what E is paired
    with.

    Args:
        corrector: What is trained.
        optimizer: Of the corrector.
        iterations: Length of the run in training batches.
        critic: psi; null for no distillation.
        critic_optimizer: Of the critic; the corrector's settings by default. The paper: a tenth of
            its learning rate.
        use_noise: Whether the prompt is told of the noise at all.
        negatives: Audio of ``others``, a draw of the product of marginals, or the ``clean`` audio
            of the same utterance, as the paper has it.
        weight: Of the distillation (the paper: 0.5).
        decay: Of the running mean in MINE's gradient.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A number is out of range, or there is a critic but no noise.
    """

    running: Tensor

    def __init__(
        self,
        corrector: Corrector,
        optimizer: Optimization,
        iterations: int,
        critic: PairCritic | None = None,
        critic_optimizer: Optimization | None = None,
        use_noise: bool = True,
        negatives: Literal["others", "clean"] = "others",
        weight: float = 0.5,
        decay: float = 0.99,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        optimizers = {"corrector": optimizer}
        if critic is not None:
            optimizers["critic"] = critic_optimizer or optimizer
        super().__init__(iterations, optimizers, accumulate, seed, max_non_finite)
        if weight < 0 or not 0 <= decay < 1:
            raise InputError(
                f"weight and decay: expected at least 0 and from 0 to 1, found {weight}, {decay}."
            )
        if critic is not None and not use_noise:
            raise InputError("critic: expected none where the prompt is told of no noise.")
        self.corrector = corrector
        self.critic = critic
        self.use_noise = use_noise
        self.negatives = negatives
        self.weight = weight
        self.decay = decay
        self.register_buffer("running", torch.ones(()))

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"corrector": ("corrector", self.corrector)}

    def on_fit_start(self) -> None:
        """Take the vectors that words are compared by from the data."""
        data = data_of(self.trainer)
        found, expected = getattr(data, "phones", None), self.corrector.word_vectors.shape
        if found is None or found.shape != expected:
            shape = None if found is None else tuple(found.shape)
            raise InputError(
                f"corrector: expected word vectors {tuple(expected)} of the data, found {shape}."
            )
        self.corrector.word_vectors.copy_(found)

    # The algorithm ----------------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        hypotheses, truth = batch["hypotheses"], batch["truth"]
        logged: dict[str, Tensor] = {}
        noise = self.corrector.noise(hypotheses) if self.use_noise else None
        if self.critic is not None and noise is not None:
            audio, other = batch["noisy"], self.other(batch)
            # psi ascends on T(E) as it is, T on psi as it has become.
            held_noise = noise.detach()
            joint = self.critic(held_noise, audio)
            product = self.critic(held_noise, other)
            self.optimize("critic", -mine_surrogate(joint, product, self.running))
            if self._stepped:  # a skipped update leaves no trace
                mean = joint_average(product.detach().exp())
                self.running.lerp_(mean, 1 - self.decay)
            logged["information"] = dv_bound(joint.detach(), product.detach())
        logits = self.corrector(hypotheses, noise)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), truth.flatten())
        logged["cross_entropy"] = loss.detach()
        if self.critic is not None and noise is not None:
            loss = loss - self.weight * self.information(noise, audio, other)
        self.optimize("corrector", loss)
        self.report(logged)

    def information(self, noise: Tensor, audio: Tensor, other: Tensor) -> Tensor:
        """What has the gradient of psi's bound of ``I(T(E); audio)``, psi held, ()."""
        assert self.critic is not None
        with held(self.critic):
            scores = self.critic(noise, audio), self.critic(noise, other)
        return mine_surrogate(*scores, self.running)

    def other(self, batch: Batch) -> Tensor:
        """What E does not belong to, (B, A): other items of the joint batch, or clean audio."""
        noisy: Tensor = batch["noisy"]
        if self.negatives == "clean":
            clean: Tensor = batch["clean"]
            return clean
        everyone = len(joint_rows(noisy))
        step = 1 + self.noise.integers(len(noisy), max(1, everyone - 1))
        return joint_other(noisy, step, self.global_rank)
