"""What all diffusion methods have in common: training ends in generators."""

from torch import Tensor, nn

from kdlight.diffusion.generator import Generator
from kdlight.training.base import Batch, DistillationModule


class DiffusionModule(DistillationModule):
    """Base of the methods that train denoisers, with or without a teacher that samples.

    A method defines :meth:`generators`, and with a teacher :meth:`teacher_generator`.
    """

    def generators(self) -> dict[str, tuple[str, Generator]]:
        """What training ends in.

        Returns:
            For the state-dict prefix of a denoiser: a name ("student") and its generator.
        """
        raise NotImplementedError

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.generators())

    def teacher_generator(self) -> Generator | None:
        """The teacher as it samples at full quality, to compare with; None if there is none."""
        return None

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Samples of the first generator, for the labels or texts of the batch."""
        _, generator = next(iter(self.generators().values()))
        # Not from the global generator, of which every rank has the same.
        self.noise.start(batch_idx, self.device, self.global_rank, self.trainer.world_size)
        noise = batch["noise"] if "noise" in batch else self.noise.normal(batch["image"])
        samples: Tensor = generator(noise, generator.denoiser.condition_of(batch))
        return samples
