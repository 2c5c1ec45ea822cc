"""Cases of classifiers of texts."""

from typing import Any

import lightning as L
import torch

from datamodules.text.few_labels import FewLabelsDataModule
from datamodules.text.oracle_classes import OracleClassesDataModule
from datamodules.text.oracle_tags import OracleTagsDataModule
from datamodules.text.ranking import Ranked, RankingDataModule
from kdlight.discrete.oracle import HMMLanguage
from kdlight.losses.language.matching import HiddenStates, MutualInformation
from kdlight.losses.language.ranking import MarginMSE
from kdlight.networks.text.classifier import TextClassifier, TokenClassifier
from kdlight.networks.text.encoder import BagOfTokens
from kdlight.networks.text.exits import ExitEncoder
from kdlight.storage.tokenizers import NumberTokenizer
from kdlight.teachers.class_oracle import ClassOracle
from kdlight.training.optim import Optimization
from modules.language.encoders.ranking_distillation import RankingDistillation
from modules.language.encoders.representation_distillation import RepresentationDistillation
from modules.language.encoders.text_classification import TextClassification
from modules.language.feedback_rounds import FeedbackRounds
from modules.language.structure.exit_distillation import ExitDistillation
from tests.exactness.harness import BATCH, Case

V, LENGTH = 5, 6
LANGUAGE = HMMLanguage(states=3, vocabulary=V, length=LENGTH, emission=0.6)


def data(batch_size: int = BATCH) -> L.LightningDataModule:
    return OracleClassesDataModule(LANGUAGE, 2, 1, 40, 10, batch_size, steps_per_epoch=7, seed=3)


def tags(batch_size: int = BATCH) -> L.LightningDataModule:
    language = HMMLanguage(states=3, vocabulary=V, length=LENGTH, emission=0.6)
    return OracleTagsDataModule(language, 1, 40, 10, batch_size, steps_per_epoch=7, seed=3)


def settings(width: int, depth: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": V,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": LENGTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def classifier(seed: int, width: int = 8, depth: int = 1) -> TextClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = TextClassifier(settings(width, depth), 2)
        # Drawn small, every teacher says the same of all texts.
        torch.nn.init.normal_(made.model.classifier.weight)
    return made


def tagger(seed: int, width: int = 8, depth: int = 1) -> TokenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = TokenClassifier(settings(width, depth), 3)
        torch.nn.init.normal_(made.model.classifier.weight)
    return made


def text_classification(**kwargs: Any) -> TextClassification:
    return TextClassification(
        classifier(1), Optimization(lr=3e-3, decay="cosine"), 20, ema_half_life=3.0, **kwargs
    )


def representation_distillation(**kwargs: Any) -> RepresentationDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return RepresentationDistillation(
            [classifier(2, depth=2), classifier(3, width=12)],
            classifier(1),
            Optimization(lr=3e-3, decay="cosine"),
            MutualInformation(0.5, dimension=4),
            iterations=20,
            label=0.3,
            ema_half_life=3.0,
            **kwargs,
        )


def tag_distillation(**kwargs: Any) -> RepresentationDistillation:
    """Every token has a label, and ranks hold unlike numbers of tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return RepresentationDistillation(
            [tagger(2, depth=2), tagger(3, width=12)],
            tagger(1),
            Optimization(lr=3e-3, decay="cosine"),
            HiddenStates(),
            iterations=20,
            label=0.3,
            ema_half_life=3.0,
            **kwargs,
        )


def few(batch_size: int = BATCH) -> L.LightningDataModule:
    return FewLabelsDataModule(LANGUAGE, 2, 4, 3, 1, 10, batch_size, steps_per_epoch=7, seed=3)


def feedback_rounds(**kwargs: Any) -> FeedbackRounds:
    return FeedbackRounds(
        ClassOracle(LANGUAGE, 2, 1, candidates=3),
        classifier(1),
        Optimization(lr=3e-3, decay="cosine"),
        asks=6,
        rounds=3,
        round_iterations=7,
        ema_half_life=3.0,
        **kwargs,
    )


class RaggedRanking(RankingDataModule):
    """Forty queries with one to three passages, as a teacher scored them."""

    def __init__(self, batch_size: int = BATCH) -> None:
        super().__init__(NumberTokenizer(V), 4, None, 1.0, "", batch_size, 7, 3)

    def rows(self) -> tuple[list[Ranked], list[Ranked]]:
        texts = [f"{n % 5} {n // 5 % 5} {n // 25}" for n in range(60)]
        rows = [
            Ranked(texts[n], texts[n + 1 : n + 3 + n % 3], [3.0, *[n % 7 - 3.0] * (1 + n % 3)])
            for n in range(50)
        ]
        return rows[:40], rows[40:]


def ranking_distillation(**kwargs: Any) -> RankingDistillation:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = BagOfTokens(V, 4)
    return RankingDistillation(
        student,
        MarginMSE(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def exit_encoder(depth: int, exits: list[int]) -> ExitEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ExitEncoder(settings(8, depth), exits)


def exit_distillation(**kwargs: Any) -> ExitDistillation:
    return ExitDistillation(
        exit_encoder(2, [1, 2]),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        self_distillation=0.5,
        ema_half_life=3.0,
        **kwargs,
    )


TEXT = {
    "feedback_rounds": Case(feedback_rounds, 21, (7,), data_module=few),
    "exit_distillation": Case(exit_distillation, 20, data_module=RaggedRanking),
    "ranking_distillation": Case(ranking_distillation, 20, data_module=RaggedRanking),
    "text_classification": Case(text_classification, 20, data_module=data),
    "representation_distillation": Case(representation_distillation, 20, data_module=data),
    "tag_distillation": Case(tag_distillation, 20, data_module=tags),
}
