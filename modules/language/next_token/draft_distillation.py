"""A draft learns the features of the model that will verify it (FSPAD, arXiv:2408.15562)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeFloat
from kdlight.core.ranks import joint_mean
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.networks.text.feature_draft import FeatureDraft
from kdlight.networks.text.feature_drafter import check_width, ends_of, listening, logits_of
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.ema import EMA
from kdlight.training.optim import Optimization


class DraftDistillation(DistillationModule):
    """Trains a :class:`~kdlight.networks.text.feature_draft.FeatureDraft` for a model.

        (u, v)_i = draft(embedding of token i, f_i + noise)
        loss = feature * mean of smooth L1(v_i, f_(i + 1))
               + prediction * mean of -sum p_(i + 1) log softmax(head(u_i))

    f_i is what the target's head sees at place i, behind its last norm, and p_i the law it makes of
    that. Embedding and head are the target's and stay. The pair is shifted by one: at place i the
    draft reads the token that f_i led to. Without the shift it could but guess that token.

    Args:
        target: The model that will verify.
        draft: Learns.
        optimizer: Settings of the draft's optimizer.
        iterations: Training batches.
        feature: Weight of the features.
        prediction: Weight of the laws.
        noise: Features are moved by uniform noise of at most this size, as those that the draft
            feeds itself are not exact; the release has 51.2 / L.
        ema_half_life: Half-life of the draft's average in updates; 0 keeps the latest weights.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The head of the target is not known, or the draft is of another width.
    """

    shardable: ClassVar[bool] = False

    def __init__(
        self,
        target: AutoregressiveModel,
        draft: FeatureDraft,
        optimizer: Optimization,
        iterations: int = 1000,
        feature: NonNegativeFloat = 1.0,
        prediction: NonNegativeFloat = 0.1,
        noise: NonNegativeFloat = 0.1,
        ema_half_life: float = 50.0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"draft": optimizer}, accumulate, seed, max_non_finite)
        check_width(draft, ends_of(target)[1])
        self.add_frozen("target", target)
        self.draft = draft
        self.feature, self.prediction, self.size = feature, prediction, noise
        self.ema = EMA(draft, ema_half_life)
        self.average("draft", self.ema)

    def step(self, batch: Batch) -> None:
        tokens = batch["tokens"]
        features, embedded, logits = self.seen(tokens)
        uniform = self.noise.uniform(len(tokens), *features.shape[1:]).to(features)
        moved = features + self.size * (2 * uniform - 1)
        foreseen = self.draft(embedded[:, :-1], moved[:, :-1])
        far = nn.functional.smooth_l1_loss(foreseen.fed, features[:, 1:], reduction="none")
        head = ends_of(self.get_submodule("target"))[1]
        log_q = logits_of(head, foreseen.shown, logits.shape[2]).log_softmax(dim=2)
        soft = -(logits[:, 1:].softmax(dim=2) * log_q).sum(dim=2)
        scored = batch.get("mask", torch.ones_like(tokens, dtype=torch.bool))
        weights = scored[:, 1:].to(soft.dtype)
        terms = {
            "feature": joint_mean(far.mean(dim=2), weights),
            "prediction": joint_mean(soft, weights),
        }
        self.optimize(
            "draft", self.feature * terms["feature"] + self.prediction * terms["prediction"]
        )
        self.report({name: term.detach() for name, term in terms.items()})

    @torch.no_grad()
    def seen(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features and embeddings of tokens (B, L, D), and the target's logits (B, L, V)."""
        target = self.get_submodule("target")
        embedding, head = ends_of(target)
        heard: list[Tensor] = []
        with listening(head, heard.append):
            logits = target(tokens)
        return heard[-1], embedding(tokens), logits

    def drafting(self) -> tuple[AutoregressiveModel, FeatureDraft]:
        """The model that verifies, and the draft that training ends in."""
        target = self.get_submodule("target")
        assert isinstance(target, AutoregressiveModel)
        return target, self.ema.module

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"ema.module": ("student", self.ema.module)}
