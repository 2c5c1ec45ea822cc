"""Cases of models that write tokens."""

from typing import Any

import lightning as L
import torch

from datamodules.loader import StreamLoader
from datamodules.text.entities import EntityDataModule
from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.discrete.components import ComponentDenoiser
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.entities import EntityLanguage
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.oracle import HMMLanguage
from kdlight.losses.language.clipping import ClippedKL
from kdlight.losses.language.matched_rows import Sinkhorn
from kdlight.losses.language.objective import Objective
from kdlight.losses.language.pointwise import ForwardKL, JensenShannon
from kdlight.losses.language.taid import TAID
from kdlight.networks.text.tagger import TokenTagger
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.selection.critics import InText
from kdlight.selection.labelling import Labelling, LeastSure
from kdlight.teachers.answering import EntityOracle
from kdlight.teachers.law_cache import kept_laws
from kdlight.training.optim import Optimization
from modules.language.discrete.dimensional_correlations import DimensionalCorrelations
from modules.language.discrete.masked_diffusion_training import MaskedDiffusionTraining
from modules.language.next_token.cached_distillation import CachedDistillation
from modules.language.next_token.cross_tokenizer_distillation import CrossTokenizerDistillation
from modules.language.next_token.language_training import LanguageTraining
from modules.language.next_token.logit_distillation import LogitDistillation
from modules.language.next_token.on_policy_distillation import OnPolicyDistillation
from modules.language.teaching_rounds import TeachingRounds
from tests.exactness.harness import BATCH, Case

V, LENGTH = 5, 6


def data(batch_size: int = BATCH) -> L.LightningDataModule:
    language = HMMLanguage(states=3, vocabulary=V, length=LENGTH)
    return OracleLanguageDataModule(language, 40, 10, batch_size, steps_per_epoch=7, seed=3)


class RaggedLanguage(OracleLanguageDataModule):
    """Sentences of which an uneven part is scored, so that ranks hold unlike numbers of tokens."""

    def make_train_loader(self) -> StreamLoader:
        tokens = self.parts[0]["tokens"]
        lengths = torch.arange(len(tokens)) % LENGTH + 1
        mask = torch.arange(LENGTH) < lengths[:, None]
        batch = {"tokens": tokens, "mask": mask, "lengths": lengths}
        return StreamLoader(batch, self.batch_size, self.steps_per_epoch, self.seed, *self.ranks)


def ragged(batch_size: int = BATCH) -> L.LightningDataModule:
    language = HMMLanguage(states=3, vocabulary=V, length=LENGTH)
    return RaggedLanguage(language, 40, 10, batch_size, steps_per_epoch=7, seed=3)


class TaughtLanguage(RaggedLanguage):
    """The same, with the two likeliest tokens of a teacher, as a cache gives them."""

    def make_train_loader(self) -> StreamLoader:
        loader = super().make_train_loader()
        teacher = AutoregressiveModel(network(2, causal=True), V, LENGTH)
        assert isinstance(loader.data, dict)
        with torch.no_grad():
            laws = kept_laws(teacher(loader.data["tokens"]), 2)
        loader.data |= {
            "teacher_tokens": laws.tokens.to(torch.uint16),
            "teacher_log_probs": laws.log_probs.half(),
        }
        return loader


def taught(batch_size: int = BATCH) -> L.LightningDataModule:
    language = HMMLanguage(states=3, vocabulary=V, length=LENGTH)
    return TaughtLanguage(language, 40, 10, batch_size, steps_per_epoch=7, seed=3)


class TwoTongues(RaggedLanguage):
    """The same, a teacher reading every token as two, of which the first alone is behind it."""

    def make_train_loader(self) -> StreamLoader:
        loader = super().make_train_loader()
        assert isinstance(loader.data, dict)
        tokens = loader.data["tokens"]
        places = torch.arange(LENGTH)
        loader.data |= {
            "teacher_input": tokens.repeat_interleave(2, dim=1) % (V - 1),
            "meeting": torch.where(places % 3 == 1, -1, 2 * places).expand(len(tokens), -1),
        }
        return loader


def two_tongues(batch_size: int = BATCH) -> L.LightningDataModule:
    language = HMMLanguage(states=3, vocabulary=V, length=LENGTH)
    return TwoTongues(language, 40, 10, batch_size, steps_per_epoch=7, seed=3)


def network(seed: int, components: int = 1, causal: bool = False) -> TokenTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = TokenTransformer(
            V, width=8, depth=1, heads=2, causal=causal, components=components, length=LENGTH
        )
        # The head starts at zero, where every network is the same.
        torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


def masked_diffusion(**kwargs: Any) -> MaskedDiffusionTraining:
    return MaskedDiffusionTraining(
        MaskedDenoiser(network(1), V, LENGTH),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def language_training(**kwargs: Any) -> LanguageTraining:
    return LanguageTraining(
        AutoregressiveModel(network(1, causal=True), V, LENGTH),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def dimensional_correlations(**kwargs: Any) -> DimensionalCorrelations:
    return DimensionalCorrelations(
        TokenGenerator(MaskedDenoiser(network(2), V, LENGTH)),
        ComponentDenoiser(network(1, components=3), V, LENGTH, components=3),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        together=2,
        ema_half_life=3.0,
        **kwargs,
    )


def logit_distillation(objective: Objective | None = None, **kwargs: Any) -> LogitDistillation:
    return LogitDistillation(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        AutoregressiveModel(network(1, causal=True), V, LENGTH),
        objective or ForwardKL(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def cached_distillation(**kwargs: Any) -> CachedDistillation:
    return CachedDistillation(
        AutoregressiveModel(network(1, causal=True), V, LENGTH),
        ForwardKL(temperature=1.5),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        likelihood=0.1,
        ema_half_life=3.0,
        **kwargs,
    )


def cross_tokenizer(**kwargs: Any) -> CrossTokenizerDistillation:
    return CrossTokenizerDistillation(
        AutoregressiveModel(network(2, causal=True), V, 2 * LENGTH),
        AutoregressiveModel(network(1, causal=True), V, LENGTH),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def over_sequences(**kwargs: Any) -> LogitDistillation:
    return logit_distillation(Sinkhorn(), likelihood=0.5, average="sequences", **kwargs)


def clipped(**kwargs: Any) -> LogitDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return logit_distillation(ClippedKL(candidates=3, hidden=4, floor=0.5), **kwargs)


def on_policy(**kwargs: Any) -> OnPolicyDistillation:
    return OnPolicyDistillation(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        AutoregressiveModel(network(1, causal=True), V, LENGTH),
        JensenShannon(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        student_share=0.4,
        teacher_share=0.3,
        end=0,
        likelihood=0.1,
        ema_half_life=3.0,
        **kwargs,
    )


def entities(batch_size: int = BATCH) -> L.LightningDataModule:
    return EntityDataModule(EntityLanguage(30, 5), 24, 40, 10, batch_size, steps_per_epoch=7)


def teaching_rounds(**kwargs: Any) -> TeachingRounds:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = TokenTagger(29, 5, width=8, depth=1, heads=2)
    return TeachingRounds(
        EntityOracle(EntityLanguage(30, 5)),
        student,
        Labelling(["person", "place"], [InText()]),
        Optimization(lr=3e-3, decay="cosine"),
        asks=9,
        rounds=2,
        round_iterations=10,
        chooser=LeastSure(),
        ema_half_life=3.0,
        **kwargs,
    )


LANGUAGE = {
    "teaching_rounds": Case(teaching_rounds, 20, (10,), data_module=entities),
    "on_policy_distillation": Case(on_policy, 20, data_module=ragged),
    "cached_distillation": Case(cached_distillation, 20, data_module=taught),
    "cross_tokenizer_distillation": Case(cross_tokenizer, 20, data_module=two_tongues),
    "logit_distillation": Case(logit_distillation, 20, data_module=ragged),
    "logit_distillation_over_sequences": Case(over_sequences, 20, data_module=ragged),
    "logit_distillation_clipped": Case(clipped, 20, data_module=ragged),
    "taid": Case(
        lambda **kwargs: logit_distillation(TAID(step=0.1), **kwargs), 20, data_module=ragged
    ),
    "masked_diffusion": Case(masked_diffusion, 20, data_module=data),
    "masked_diffusion_ragged": Case(masked_diffusion, 20, data_module=ragged),
    "masked_diffusion_by_time": Case(
        lambda **kwargs: masked_diffusion(corruption="time", **kwargs), 20, data_module=data
    ),
    "language_training": Case(language_training, 20, data_module=ragged),
    "dimensional_correlations": Case(dimensional_correlations, 20, data_module=data),
}
