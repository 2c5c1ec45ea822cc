"""A tiny synthesiser, its teacher and its student."""

from typing import Any

import torch

from datamodules.speech.formant_sentences import FormantSentencesDataModule
from kdlight.codec.log_mel import LogMel
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.sigmas import CosineGrid
from kdlight.networks.speech.front_end import FrontEnd
from kdlight.networks.speech.synthesiser import Synthesiser
from kdlight.networks.speech.wavenet import WaveNet
from kdlight.training.optim import Optimization
from modules.speech.prodiff import ProDiff
from modules.speech.synthesis_training import SynthesisTraining

RATE, HOP = 8000, 160


def short_sentences(batch_size: int = 12) -> FormantSentencesDataModule:
    """Twelve words of three voices at 8 kHz, two voices to train on; a third of the batch."""
    return FormantSentencesDataModule(
        speakers=3,
        utterances=4,
        words=(1, 1),
        lexicon=20,
        frames=40,
        batch_size=batch_size // 3,
        steps_per_epoch=7,
        sample_rate=RATE,
        hop_length=HOP,
        heldout=1,
    )


def tiny_synthesiser(seed: int = 1, dropout: float = 0.0) -> Synthesiser:
    """Two voices, 10 bands, in 4 steps; what starts at zero is made to say something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        front_end = FrontEnd(38, 10, 8, 1, 2, 3, 8, bins=4, dropout=dropout)
        network = WaveNet(10, 8, 8, 2)
        torch.nn.init.normal_(network.output.weight, std=0.3)
    denoiser = VPDenoiser(network, "cosine", "sample", 1.0)
    mel = LogMel(10, RATE, HOP, 320)
    return Synthesiser(front_end, denoiser, CosineGrid(), 2, mel).eval()


def tiny_teacher() -> Synthesiser:
    """The same with voices."""
    made = tiny_synthesiser()
    made.table.copy_(torch.linspace(-1, 1, 22).reshape(2, 11))
    made.table[:, -1] = 5.0
    made.log_mel.mean.fill_(-3.0)
    return made


def synthesis_training(**kwargs: Any) -> SynthesisTraining:
    return SynthesisTraining(
        tiny_synthesiser().train(),
        # The bias of attention's keys has no gradient but rounding, which Adam would make steps of.
        Optimization(lr=3e-3, eps=1e-3, clip=1.0),
        iterations=20,
        ema_half_life=3.0,
        **kwargs,
    )


def prodiff(**kwargs: Any) -> ProDiff:
    return ProDiff(
        tiny_teacher(),
        Optimization(lr=3e-3, decay="linear"),
        round_iterations=[8, 8],
        ema_half_life=3.0,
        **kwargs,
    )
