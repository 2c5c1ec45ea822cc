"""Cases of methods that change what a language model is."""

from typing import Any

import lightning as L
import torch

from datamodules.text.mappings import MappingsDataModule
from datamodules.text.sorting import SortingDataModule
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.condensing import Condensing
from kdlight.networks.text.encoder_decoder import EncoderDecoder
from kdlight.networks.text.feature_draft import FeatureDraft
from kdlight.networks.text.state_space import StateSpaceModel
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.surgery.experts import cut_experts, masks_of
from kdlight.training.optim import Optimization
from modules.language.next_token.draft_distillation import DraftDistillation
from modules.language.next_token.logit_distillation import LogitDistillation
from modules.language.structure.encoder_distillation import EncoderDistillation
from modules.language.structure.layer_distillation import LayerDistillation
from modules.language.structure.mohawk import MOHAWK
from modules.language.structure.read_me import ReadMe
from tests.exactness.harness import BATCH, Case
from tests.exactness.language_cases import LENGTH, V, network, ragged


def mohawk(**kwargs: Any) -> MOHAWK:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = StateSpaceModel(V, width=8, depth=1, heads=2, chunk=4)
    return MOHAWK(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        AutoregressiveModel(student, V, LENGTH),
        ForwardKL(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        matrix_iterations=2,
        state_iterations=2,
        ema_half_life=3.0,
        **kwargs,
    )


def questions(batch_size: int = BATCH) -> L.LightningDataModule:
    return SortingDataModule(V, 3, 40, 10, batch_size, steps_per_epoch=7, seed=3)


def encoder_distillation(**kwargs: Any) -> EncoderDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = EncoderDecoder(V, 3, width=8, encoder_depth=1, depth=1, heads=2)
        torch.nn.init.normal_(student.head.weight, std=0.3)
    return EncoderDistillation(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        AutoregressiveModel(student, V, LENGTH),
        ForwardKL(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        top_k=3,
        end=0,
        ema_half_life=3.0,
        **kwargs,
    )


def demonstrations(batch_size: int = BATCH) -> L.LightningDataModule:
    return MappingsDataModule(2, 1, True, 40, 10, batch_size, steps_per_epoch=7, seed=3)


def served() -> TokenTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        made = TokenTransformer(4, width=8, depth=1, heads=2, causal=True)
        torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


def mend(**kwargs: Any) -> LogitDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = Condensing(served(), 4, 2, width=8, depth=1, heads=2)
    return LogitDistillation(
        AutoregressiveModel(served(), 4, LENGTH),
        AutoregressiveModel(student, 4, LENGTH),
        ForwardKL(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        likelihood=1.0,
        ema_half_life=3.0,
        **kwargs,
    )


def layer_distillation(**kwargs: Any) -> LayerDistillation:
    return LayerDistillation(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        AutoregressiveModel(network(1, causal=True), V, LENGTH),
        ForwardKL(temperature=2.0, temperature_squared=False),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        prediction=1.0,
        likelihood=0.1,
        ema_half_life=3.0,
        **kwargs,
    )


def cut() -> tuple[AutoregressiveModel, AutoregressiveModel]:
    """A dense model and three experts of it."""
    teacher = AutoregressiveModel(network(2, causal=True), V, LENGTH)
    masks = masks_of(torch.rand(3, 1, 32, generator=torch.Generator().manual_seed(0)), 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return teacher, cut_experts(teacher, masks, router_width=8)


def read_me(rounds: int = 2, **kwargs: Any) -> ReadMe:
    return ReadMe(
        *cut(),
        Optimization(lr=3e-3, decay="cosine"),
        rounds=rounds,
        router_iterations=4,
        tuning_iterations=6,
        ema_half_life=3.0,
        **kwargs,
    )


def draft_distillation(**kwargs: Any) -> DraftDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draft = FeatureDraft(8, heads=2)
    return DraftDistillation(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        draft,
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


STRUCTURE = {
    "read_me": Case(read_me, 20, (4, 10, 14), data_module=ragged),
    "draft_distillation": Case(draft_distillation, 20, data_module=ragged),
    "encoder_distillation": Case(encoder_distillation, 20, data_module=questions),
    "mend": Case(mend, 20, data_module=demonstrations),
    "layer_distillation": Case(layer_distillation, 20, data_module=ragged),
    "mohawk": Case(mohawk, 20, (2, 4), data_module=ragged),
}
