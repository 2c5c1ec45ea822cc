"""What methods that train speech synthesisers share: their batches, and what they check."""

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.codec.frames import frame_mask
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.losses.structural import ssim_loss
from kdlight.losses.synthesis import mel_loss
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of

DATA_RANGE = 6.0
"""Of normalised bands: nearly all of speech lies within three deviations of the mean."""


class SynthesisModule(DistillationModule):
    """Base of those methods: :meth:`synthesisers` says what training ends in."""

    weights: dict[str, float]

    def synthesisers(self) -> dict[str, tuple[str, Synthesiser]]:
        """Names and synthesisers, by the state-dict prefix of their weights."""
        raise NotImplementedError

    def teacher_synthesiser(self) -> Synthesiser | None:
        """The teacher at full quality, to compare with; None if there is none."""
        return None

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return dict(self.synthesisers())

    def check_data(self, model: Synthesiser) -> Any:
        """The data module, if it has what ``model`` is to learn.

        Raises:
            InputError: It has no sentences, another rate, other phones or other voices.
        """
        data = data_of(self.trainer)
        if not hasattr(data, "training_sentences"):
            raise InputError(
                f"data: expected sentences with phones, such as FormantSentencesDataModule has, "
                f"found {type(data).__name__}."
            )
        found = {
            "sample_rate": (data.sample_rate, model.log_mel.sample_rate),
            "hop_length": (data.hop_length, model.log_mel.hop_length),
            "phone_names": (tuple(data.phone_names), model.phones),
            "speakers": (len(data.training_sentences()), model.voices),
        }
        for name, (there, wanted) in found.items():
            if there != wanted:
                kind = "training speakers (the model's voices)" if name == "speakers" else name
                raise InputError(f"data: expected {wanted} {kind}, found {there}.")
        return data

    def prepare(self, batch: Batch, model: Synthesiser) -> tuple[Tensor, Condition]:
        """Normalised spectrograms (B, bands, F), zero on padding, and all that is known of them."""
        x0 = model.log_mel(batch["audio"])
        mask = frame_mask(batch["lengths"], model.log_mel.hop_length, x0.shape[2])
        x0 = x0 * mask[:, None]
        condition = {name: batch[name] for name in ("phones", "durations", "pitch")}
        voices = model.table[batch["voice"]]
        return x0, condition | {"energy": x0.mean(dim=1), "speaker": voices, "mask": mask}

    def reconstruction(self, estimate: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The terms of equations 9 to 11, with their weights."""
        terms = {"mel": mel_loss(estimate, target, mask)}
        if self.weights["ssim"]:
            terms["ssim"] = ssim_loss(estimate, target, mask, DATA_RANGE)
        return {name: self.weights[name] * term for name, term in terms.items()}


def weights_of(given: dict[str, float] | None, known: dict[str, float]) -> dict[str, float]:
    """Weights of the terms, the usual ones where none is given.

    Raises:
        InputError: There is no such term, or a weight is below 0.
    """
    for name, value in (given or {}).items():
        if name not in known or not value >= 0:
            raise InputError(
                f"weights: expected {', '.join(known)}, each at least 0, found {name}: {value}."
            )
    return known | (given or {})


def blank(module: nn.Module) -> None:
    """Make all weights zero and freeze them: a place for what a later round fills in."""
    module.requires_grad_(False).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
