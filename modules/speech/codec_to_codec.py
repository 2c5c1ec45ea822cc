"""A big codec distilled into a lighter one."""

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.codec.codec import Codec
from kdlight.codec.frames import FrameGrid, frame_mask
from kdlight.codec.quantization import Quantized
from kdlight.core.ranks import joint_sum
from kdlight.errors import InputError
from kdlight.losses.guidance import mse_loss, pseudo_label_loss
from kdlight.teachers.codec import CodecTeacher
from kdlight.training.base import Batch
from kdlight.training.optim import Optimization
from modules.speech.codec_training import CodecTraining


class CodecToCodec(CodecTraining):
    """A light codec learns what a finished one says: its latents, its codes, its voice.

    Beside the terms of :class:`~modules.speech.codec_training.CodecTraining` there are

    - ``latents``: mean squared difference of the student's quantised latents, through a linear
      head, from the teacher's features, in units of the mean square of the latter;
    - ``codes``: cross-entropy of the teacher's codes, level by level, given the student's latents
      (FitNets, arXiv:1412.6550, with a hint and labels; no paper fixes the recipe).

    Heads are trained by the codec's optimizer and left out of what is exported.

    Args:
        teacher: The finished codec; ``n_q`` of it says which levels are learnt.
        codec: The lighter one.
        optimizer: Of the codec and the heads.
        imitate: Whether to reconstruct what the teacher makes of the audio, which is easier and at
            best as good as the teacher, and not the audio itself.
        weights: Of each term; one of 0 leaves it out.
        kwargs: Of :class:`~modules.speech.codec_training.CodecTraining`.

    Raises:
        InputError: Sample rates differ, or codes are to be learnt on another grid of frames.
    """

    term_weights = {**CodecTraining.term_weights, "latents": 1.0, "codes": 1.0}

    def __init__(
        self,
        teacher: CodecTeacher,
        codec: Codec,
        optimizer: Optimization,
        imitate: bool = False,
        weights: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(codec, optimizer, weights=weights, **kwargs)
        if codec.sample_rate != teacher.sample_rate:
            raise InputError(
                f"codec.sample_rate: expected {teacher.sample_rate} of the teacher, "
                f"found {codec.sample_rate}."
            )
        if self.weights["codes"] > 0 and codec.hop_length != teacher.hop_length:
            raise InputError(
                f"codec.hop_length: expected {teacher.hop_length} of the teacher, or a weight of 0 "
                f"for codes, found {codec.hop_length}."
            )
        self.imitate = imitate
        self.grid = FrameGrid(codec.sample_rate, codec.hop_length)
        dim = codec.quantizer.dim
        self.levels_learnt = teacher.n_q or teacher.codec.n_q
        self.heads = nn.ModuleDict(
            {
                "latents": nn.Linear(dim, teacher.width),
                "codes": nn.Linear(dim, self.levels_learnt * teacher.codec.codebook_size),
            }
        )
        self.add_frozen("teacher", teacher)

    @property
    def _teacher(self) -> CodecTeacher:
        teacher = self.teacher
        assert isinstance(teacher, CodecTeacher)
        return teacher

    def companions(self) -> list[str]:
        return ["heads"]

    # The algorithm --------------------------------------------------------------------------

    def target(self, batch: Batch) -> Tensor:
        audio = super().target(batch)
        if not self.imitate:
            return audio
        heard: Tensor = self._teacher.codec.decode(self._teacher.codec.encode(audio))
        return heard[..., : audio.shape[-1]]

    def beside(self, batch: Batch, quantized: Quantized) -> dict[str, Tensor]:
        terms = super().beside(batch, quantized)
        student = quantized.latents.transpose(1, 2)
        if self.weights["latents"] > 0:
            told = self._teacher(batch["audio"], batch["lengths"], self.grid)
            difference = mse_loss(self.heads["latents"](student), told.features, told.mask)
            terms["latents"] = difference / mean_square(told.features, told.mask)
        if self.weights["codes"] > 0:
            codes = self._teacher.codes(batch["audio"], batch["lengths"])
            mask = frame_mask(batch["lengths"], self.grid.hop_length, student.shape[1])
            logits = self.heads["codes"](student).unflatten(2, (self.levels_learnt, -1))
            losses = [
                pseudo_label_loss(logits[:, :, level], codes[:, level], mask)
                for level in range(self.levels_learnt)
            ]
            terms["codes"] = torch.stack(losses).mean()
        return terms


def mean_square(features: Tensor, mask: Tensor) -> Tensor:
    """Mean square of features (B, F, D) over the frames that count, of all ranks, ()."""
    kept = features[mask]
    number = torch.tensor(float(kept.numel()), device=features.device)
    total, count = joint_sum(torch.stack([kept.square().sum(), number]))
    scale: Tensor = (total / count.clamp(min=1)).clamp(min=1e-12)
    return scale
