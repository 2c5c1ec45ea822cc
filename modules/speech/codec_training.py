"""Training a neural speech codec: reconstruction, adversaries, commitment."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kdlight.codec.balancer import GradientBalancer
from kdlight.codec.codec import Codec, CodecOutput
from kdlight.codec.quantization import Quantized
from kdlight.core.frozen import held
from kdlight.errors import InputError
from kdlight.losses.spectral import LogMelLoss, SpectralLoss
from kdlight.losses.waveform_gan import (
    Kind,
    discriminator_loss,
    feature_matching,
    generator_loss,
)
from kdlight.networks.speech.judges import Discriminator
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of
from kdlight.training.optim import Optimization


class CodecTraining(DistillationModule):
    """EnCodec (arXiv:2210.13438), SpeechTokenizer (arXiv:2308.16692) and DAC (arXiv:2306.06546).

    Their recipes are configurations under ``configs/librispeech/``: what differs is the codec, the
    discriminators, the adversarial loss and whether weights are fixed or balanced.

    Args:
        codec: What is trained: a new :class:`~kdlight.codec.codec.Codec`, or one to go on with,
            which :func:`kdlight.teachers.codec.load_codec` loads.
        optimizer: Of the codec.
        iterations: Length of the run in training batches.
        discriminator: Tells recorded from decoded audio; null for none.
        discriminator_optimizer: Of the discriminator; the codec's settings by default.
        spectral: Distance of spectrograms; :class:`~kdlight.losses.spectral.LogMelLoss` of 1,024
            samples and 80 bands by default.
        weights: Of each term, by the name it is logged under; those not named stay at 1. A weight
            of 0 leaves the term out.
        adversarial_loss: ``least_squares`` or ``hinge``.
        relative_features: Feature matching in units of each layer's mean magnitude (EnCodec).
        balancer: Balances all terms but those of the quantiser by their gradients; null for fixed
            weights.
        warmup: Iterations before the discriminator comes in.
        dropout: Share of the draws in which fewer than all levels are used (quantiser dropout): 1
            in EnCodec, 0.5 in DAC.
        dropout_by: One draw for the ``batch`` (EnCodec) or one for each ``item`` (DAC).
        dropout_levels: Numbers of levels to draw from; all from 1 by default.
        unquantized: Share of the items whose latents the decoder gets as they are (0.5 in Mimi,
            arXiv:2410.00037, section 3.3); their codes learn all the same.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Attributes:
        last_codes: Codes (B, n_q, F) of the last training batch.

    Raises:
        InputError: A weight belongs to no term; a number is out of range; the spectral loss, the
            encoder or, when a run starts, the data are of another sample rate than the codec.
    """

    term_weights: ClassVar[Mapping[str, float]] = {
        "wave": 1.0,
        "spectral": 1.0,
        "adversarial": 1.0,
        "features": 1.0,
        "commitment": 1.0,
        "codebook": 1.0,
    }
    # Codecs are called by `encode`, `decode` and their parts.
    shardable: ClassVar[bool] = False
    last_codes: Tensor

    def __init__(
        self,
        codec: Codec,
        optimizer: Optimization,
        iterations: int = 10_000,
        discriminator: Discriminator | None = None,
        discriminator_optimizer: Optimization | None = None,
        spectral: SpectralLoss | None = None,
        weights: dict[str, float] | None = None,
        adversarial_loss: Kind = "least_squares",
        relative_features: bool = False,
        balancer: GradientBalancer | None = None,
        warmup: int = 0,
        dropout: float = 0.0,
        dropout_by: Literal["batch", "item"] = "batch",
        dropout_levels: Sequence[int] | None = None,
        unquantized: float = 0.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        codec.require_whole("codec")
        optimizers = {"codec": optimizer}
        if discriminator is not None:
            optimizers["discriminator"] = discriminator_optimizer or optimizer
        super().__init__(iterations, optimizers, accumulate, seed, max_non_finite)
        for name, share in (("dropout", dropout), ("unquantized", unquantized)):
            if not 0 <= share <= 1:
                raise InputError(f"{name}: expected a share in [0, 1], found {share}.")
        levels = list(range(1, codec.n_q + 1) if dropout_levels is None else dropout_levels)
        if not levels or min(levels) < 1 or max(levels) > codec.n_q:
            raise InputError(
                f"dropout_levels: expected numbers from 1 to {codec.n_q}, found {levels}."
            )
        self.codec = codec.train()  # a file gives it in evaluation mode
        self.discriminator = discriminator
        self.spectral = spectral or LogMelLoss(codec.sample_rate, (1024,), (80,))
        self._check_rate("spectral", self.spectral)
        self._check_rate("codec.encoder", codec.encoder)
        self.balancer = balancer
        self.weights = self._weights(weights or {})
        self.adversarial_loss: Kind = adversarial_loss
        self.relative_features = relative_features
        self.warmup = warmup
        self.dropout = dropout
        self.dropout_by = dropout_by
        self.dropout_levels = levels
        self.unquantized = unquantized

    def _weights(self, given: Mapping[str, float]) -> dict[str, float]:
        usual = self.terms()
        for name, weight in given.items():
            if name not in usual:
                known = ", ".join(usual)
                raise InputError(f"weights: expected some of {known}, found {name}.")
            if not weight >= 0:
                raise InputError(f"weights.{name}: expected at least 0, found {weight}.")
        return {**usual, **given}

    def _check_rate(self, name: str, part: Any) -> None:
        found, expected = getattr(part, "sample_rate", None), self.codec.sample_rate
        if found not in (None, expected):
            raise InputError(
                f"{name}.sample_rate: expected {expected} of the codec, found {found}."
            )

    def setup(self, stage: str) -> None:
        """Refuse data of another sample rate, before a batch is heard."""
        self._check_rate("data", data_of(self.trainer))

    def terms(self) -> dict[str, float]:
        """Names of the terms, and their weights where none is given."""
        return dict(self.term_weights)

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"codec": ("codec", self.codec)}

    def companions(self) -> list[str]:
        """Parts beside the codec that its optimizer trains, such as heads; not exported."""
        return []

    def trained(self, name: str) -> list[nn.Parameter]:
        beside = self.companions() if name == "codec" else []
        parts = (self.get_submodule(companion) for companion in beside)
        return super().trained(name) + [one for part in parts for one in part.parameters()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if "codec" in self._spent:
            # Theirs are as used up as the codec's gradients.
            used_up = tuple(f"{name}." for name in self.companions())
            kept = checkpoint.get("gradients", {}).items()
            checkpoint["gradients"] = {
                name: gradient for name, gradient in kept if not name.startswith(used_up)
            }

    def describe_stage(self) -> str:
        return "with discriminator" if self.adversarial else "training"

    @property
    def adversarial(self) -> bool:
        """Whether the discriminator takes part in this iteration."""
        return self.discriminator is not None and self.iteration >= self.warmup

    # The algorithm --------------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        audio = self.target(batch)
        decoded, quantized = self.code(batch)
        self.last_codes = quantized.codes
        logged: dict[str, Tensor] = {}
        if self.adversarial:
            logged["discriminator"] = self.judge(audio, decoded.detach())
            self.optimize("discriminator", logged["discriminator"])
        terms = self.reconstruction(audio, decoded)
        if self.adversarial:
            terms |= self.deception(audio, decoded)
        beside = self.beside(batch, quantized)
        logged |= terms | beside
        self.optimize("codec", self.combine(decoded, terms) + self.weighted(beside))
        self.report(logged)

    def target(self, batch: Batch) -> Tensor:
        """What the codec shall decode, (B, 1, T)."""
        audio: Tensor = batch["audio"]
        return audio

    def code(self, batch: Batch) -> CodecOutput:
        """What the codec makes of the batch."""
        audio = batch["audio"]
        return self.reconstruct(self.codec.latents(audio), audio.shape[-1])

    def reconstruct(self, latents: Tensor, samples: int) -> CodecOutput:
        """Latents (B, D, F) quantised, and decoded to (B, 1, samples)."""
        quantized = self.codec.quantizer(latents, self.levels(len(latents)))
        heard = quantized.latents
        if self.unquantized > 0:
            whole = self.noise.uniform(len(latents)) < self.unquantized
            heard = torch.where(whole[:, None, None], latents, heard)
        return CodecOutput(self.codec.decoder(heard)[..., :samples], quantized)

    def beside(self, batch: Batch, quantized: Quantized) -> dict[str, Tensor]:
        """Terms that reach the codec without the decoded audio, by name."""
        return {"commitment": quantized.commitment_loss, "codebook": quantized.codebook_loss}

    def judge(self, audio: Tensor, decoded: Tensor) -> Tensor:
        """The discriminator's loss, ()."""
        assert self.discriminator is not None
        real = [judgement.logits for judgement in self.discriminator(audio)]
        fake = [judgement.logits for judgement in self.discriminator(decoded)]
        return discriminator_loss(real, fake, self.adversarial_loss)

    def reconstruction(self, audio: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        """Distances of decoded from recorded audio, by name."""
        return {
            "wave": (decoded - audio).abs().mean(),
            "spectral": self.spectral(decoded, audio),
        }

    def deception(self, audio: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        """What the held discriminator makes of decoded audio, by name."""
        assert self.discriminator is not None
        with held(self.discriminator):
            with torch.no_grad():
                real = [judgement.features for judgement in self.discriminator(audio)]
            judgements = self.discriminator(decoded)
        fake = [judgement.features for judgement in judgements]
        return {
            "adversarial": generator_loss(
                [judgement.logits for judgement in judgements], self.adversarial_loss
            ),
            "features": feature_matching(real, fake, self.relative_features),
        }

    def combine(self, decoded: Tensor, terms: Mapping[str, Tensor]) -> Tensor:
        """One loss of the terms that reach the codec through the decoded audio, ()."""
        if self.balancer is None:
            return self.weighted(terms)
        used = {name: term for name, term in terms.items() if self.weights[name] > 0}
        loss: Tensor = self.balancer(decoded, used, self.weights)
        return loss

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The sum of ``terms`` by their weights, ()."""
        total = torch.zeros((), device=self.device)
        for name, term in terms.items():
            if self.weights[name] > 0:
                total = total + self.weights[name] * term
        return total

    def levels(self, items: int) -> int | Tensor:
        """How many levels to use: one number, or one for each of the ``items``, (items,)."""
        choices = torch.tensor(self.dropout_levels, device=self.device)
        if self.dropout == 0:
            return self.codec.n_q
        if self.dropout_by == "batch":
            dropped = self.noise.common(1 << 30) < self.dropout * (1 << 30)
            drawn = self.noise.common(len(choices))
            return int(choices[drawn]) if dropped else self.codec.n_q
        kept = self.noise.uniform(items) >= self.dropout
        drawn_levels = choices[self.noise.integers(items, len(choices))]
        return torch.where(kept, self.codec.n_q, drawn_levels)
