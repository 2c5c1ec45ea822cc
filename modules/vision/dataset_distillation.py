"""A handful of images, made so that a network trained on them imitates a teacher that saw all."""

import torch
from torch import Tensor, nn

from kdlight.core.noise import mix
from kdlight.core.ranges import PositiveFloat, PositiveInt
from kdlight.core.ranks import joint_rows
from kdlight.errors import InputError
from kdlight.losses.ridge import ridge_predictions
from kdlight.networks.images.feature_pool import ConvEncoder, DistilledSet, FeaturePool
from kdlight.networks.images.vit import TokenEncoder
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.optim import Optimization


class DatasetDistillation(DistillationModule):
    """KRR-ST (Lee et al., arXiv:2310.06511): self-supervised dataset distillation.

    Each iteration takes one network f of a pool of half-trained ones and

        loss = mean |ridge head on f(distilled images) fitted to the distilled targets, asked at
                     f(real images), - teacher(real images)|^2

    by gradient with respect to the distilled images and targets alone, in closed form, without the
    bias of a stochastic inner loop; then f takes one step on the distilled set.

    Images start as real ones, the first of the first batch, and their targets as the teacher's
    features. Pixels are not bounded; pictures of them are clamped.

    Args:
        teacher: Its features of real images are imitated.
        network: What the networks of the pool are like; its outputs are the teacher's features.
        optimizer: Settings of the optimizer of images and targets; with weight decay it would pull
            pixels to grey.
        count: Distilled images, at most a (joint) batch.
        pool_size: Networks in the pool.
        pool_lr: Their learning rate.
        life: Steps after which one is replaced.
        restart_age: See :class:`~kdlight.networks.images.feature_pool.FeaturePool`.
        ridge: Strength of the head's regularisation.
        iterations: Training batches.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: The network's outputs or its images are not the teacher's; or the first batch
            holds fewer images than are distilled.
    """

    def __init__(
        self,
        teacher: TokenEncoder,
        network: ConvEncoder,
        optimizer: Optimization,
        count: PositiveInt = 30,
        pool_size: PositiveInt = 10,
        pool_lr: PositiveFloat = 0.1,
        life: PositiveInt = 1000,
        restart_age: bool = True,
        ridge: PositiveFloat = 1e-6,
        iterations: int = 1000,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"distilled": optimizer}, accumulate, seed, max_non_finite)
        if network.outputs != teacher.width:
            raise InputError(
                f"network: expected outputs {teacher.width} as the teacher's features, found "
                f"{network.outputs}."
            )
        self.add_frozen("teacher", teacher)
        self.distilled = DistilledSet(count, network.shape, teacher.width)
        self.pool = FeaturePool(network, pool_size, pool_lr, life=life, restart_age=restart_age)
        self.ridge = ridge

    def step(self, batch: Batch) -> None:
        image = batch["image"]
        wanted = self.taught(image)
        if self.iteration == 0:
            self.start(image, wanted)
        slot = self.noise.common(len(self.pool))
        network = self.pool.member(slot)
        own = network.features(self.distilled.image)
        with torch.no_grad():
            asked = network.features(image)
        predicted = ridge_predictions(asked, own, self.distilled.target, self.ridge)
        loss = (predicted - wanted).square().mean().to(image.dtype)
        self.optimize("distilled", loss)
        # Not after a skipped update: a bad batch changes nothing but the count.
        if self.updates and self._stepped:
            seed = mix(self._seed, self.iteration, slot)
            self.pool.advance(slot, self.distilled.image, self.distilled.target, seed)
        self.report({"imitation": loss.detach(), "pool_age": self.pool.ages.float().mean()})

    def start(self, image: Tensor, target: Tensor) -> None:
        """The first images of the joint batch, and what the teacher says of them."""
        known, wanted = joint_rows(image), joint_rows(target)
        count = self.distilled.count
        if len(known) < count:
            raise InputError(
                f"count: expected at most the {len(known)} images of a batch, found {count}."
            )
        self.distilled.start(known[:count], wanted[:count])

    @torch.no_grad()
    def taught(self, image: Tensor) -> Tensor:
        """The teacher's features, (B, width)."""
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, TokenEncoder)
        return teacher.features(image)

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"distilled": ("distilled", self.distilled)}
