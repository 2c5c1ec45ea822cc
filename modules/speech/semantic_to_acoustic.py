"""Pheme's A2S: all levels of a codec's codes from the first (arXiv:2401.02839)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdlight.core.ranges import PositiveInt
from kdlight.core.ranks import joint_mean
from kdlight.errors import InputError
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.speech.spoken_codes import SpokenCodesModule


class SemanticToAcoustic(SpokenCodesModule):
    """Masked codes of one level are learnt from the levels below and from those that are left.

    Level, share of masks and length of the prompt are drawn for every sentence; the released
    program draws them once a batch, and gives its conformer no mask of padding.

    Args:
        student: What is trained.
        optimizer: Settings of its optimizer.
        iterations: Length of the run in training batches.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.
    """

    def __init__(
        self,
        student: AcousticFiller,
        optimizer: Optimization,
        iterations: PositiveInt,
        accumulate: PositiveInt = 1,
        seed: int = 0,
        max_non_finite: PositiveInt = 10,
    ) -> None:
        super().__init__(iterations, {"student": optimizer}, accumulate, seed, max_non_finite)
        self.student: AcousticFiller = student

    def on_fit_start(self) -> None:
        """Describe the training voices once in a run's life.

        Raises:
            InputError: The data have other codes or other voices.
        """
        data = self.check_codec(self.student.levels)
        voices = data.voices()
        for name, place in (("voices", 0), ("voice", 1)):
            there, own = voices.shape[place], self.student.table.shape[place]
            if there != own:
                raise InputError(f"student.{name}: expected {there} of the data, found {own}.")
        if data.codec.n_q != self.student.levels:
            raise InputError(
                f"student.levels: expected {data.codec.n_q} of the data's codec, found "
                f"{self.student.levels}."
            )
        if not self.student.table.any():
            self.student.table.copy_(voices)

    def step(self, batch: Batch) -> None:
        codes, frames = batch["codes"], batch["frames"]
        mask = torch.arange(codes.shape[2], device=codes.device) < frames[:, None]
        level = 1 + self.noise.integers(len(codes), self.student.levels - 1)
        masked = self.masked(mask, frames)
        own = codes.gather(1, level[:, None, None].expand(-1, -1, codes.shape[2]))[:, 0]
        number = torch.arange(self.student.levels, device=codes.device)[:, None]
        hidden = (number == level[:, None, None]) & masked[:, None]
        told = torch.where(hidden, self.student.unknown, codes)
        logits = self.student(told, level, self.student.table[batch["voice"]], mask)
        error = cross_entropy(logits.float().transpose(1, 2), own, reduction="none")
        loss = joint_mean(error, masked.to(error))
        self.optimize("student", loss)
        self.report({"cross_entropy": loss.detach()})

    def masked(self, mask: Tensor, frames: Tensor) -> Tensor:
        """Which frames are hidden, (B, F) bool: a share cos(pi u / 2) of those behind a prompt.

        The prompt has 1 to F - 2 frames; one frame at least is hidden.
        """
        count = len(mask)
        longest = (frames - 2).clamp(min=0)
        prompt = (self.noise.uniform(count) * longest).floor() + (longest > 0)
        place = torch.arange(mask.shape[1], device=mask.device)
        behind = mask & (place >= prompt[:, None])
        share = torch.cos(math.pi / 2 * self.noise.uniform(count))
        wanted = (share * behind.sum(dim=1)).floor().clamp(min=1)
        order = self.noise.uniform(*mask.shape).masked_fill(~behind, 2.0).argsort(dim=1)
        return behind & (order.argsort(dim=1) < wanted[:, None])
