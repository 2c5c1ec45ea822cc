"""A codec that trains in a second on speech that needs no file."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import CSVLogger

from datamodules.speech.base import SpeechDataModule
from datamodules.speech.utterances import SpeechSplits, Utterance, split_speakers
from kdlight.codec.codec import Codec
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder
from kdlight.codec.quantization import ResidualVQ
from kdlight.losses.spectral import LogMelLoss
from kdlight.training.optim import Optimization
from modules.speech.codec_training import CodecTraining
from tests.exactness.harness import fit
from tests.metrics.speech.signals import RATE, voice

HOP, N_Q, SIZE = 320, 3, 8


class FewVoices(SpeechDataModule):
    """Eight utterances by four speakers, two of them held out."""

    def __init__(self, heldout: int | list[str] = ["s2", "s3"], rate: int = RATE) -> None:  # noqa: B006
        super().__init__(4, 0.2, 5, 3, 0, rate, HOP, heldout, None)

    def read(self) -> SpeechSplits:
        made = []
        for index in range(8):
            audio = voice(0.5 + 0.03 * index, seed=index)[None]
            text = "hello there" if index % 2 else ""
            name, speaker = f"u{index}", f"s{index % 4}"
            made.append(Utterance(name, audio, audio.shape[-1], RATE, text, speaker))
        return split_speakers(made, self.heldout, "few voices")


def tiny_codec(seed: int = 0) -> Codec:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = MelEncoder(6, RATE, HOP, 640, 16, 8, 1, 2)
        decoder = SpectrumDecoder(6, HOP, 640, 8, 1, 2)
        return Codec(encoder, ResidualVQ(6, N_Q, SIZE), decoder, RATE, HOP)


def training(**settings: Any) -> CodecTraining:
    spectral = LogMelLoss(RATE, (640,), (16,))
    return CodecTraining(
        tiny_codec(), Optimization(lr=3e-3, clip=1.0), spectral=spectral, **settings
    )


def trained(
    folder: Path, callbacks: list[Any], data: Any = None, iterations: int = 10, **settings: Any
) -> CodecTraining:
    """A run whose folder is ``folder``."""
    logger = partial(CSVLogger, name="", version="")
    module = training(iterations=iterations, **settings)
    fit(module, data or FewVoices(), callbacks, logger=logger(folder), log_every_n_steps=2)
    return module
