"""Small guided codecs for tests, and their cases for the harness of exactness."""

from pathlib import Path
from typing import Any

import torch

from datamodules.speech.base import SpeechDataModule
from datamodules.speech.utterances import SpeechSplits, split_speakers
from kdlight.codec.codec import Codec
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder
from kdlight.codec.quantization import Quantizer, ResidualVQ, SplitResidualVQ
from kdlight.guidance.disentanglement import SpeakerFree
from kdlight.guidance.guidance import Fusion, Guidance
from kdlight.guidance.objectives import DAxis, GlobalContrast, PseudoLabels
from kdlight.guidance.sources import Pooled, Shuffled
from kdlight.guidance.speech import SpeechSource
from kdlight.guidance.text import IndexAlignment, TextSource, UniformAlignment
from kdlight.losses.spectral import LogMelLoss
from kdlight.networks.speech.speaker import SpeakerExtractor
from kdlight.storage.files import save_model
from kdlight.teachers.codec import CodecTeacher
from kdlight.training.optim import Optimization
from modules.speech.codec_to_codec import CodecToCodec
from modules.speech.guided_codec_distillation import GuidedCodecDistillation
from tests.guidance.tiny_guidance import HOP, RATE, WIDTH, Letters, Loudness, Timed, utterance

WORDS = ["so", "it", "is", "that", "one", "fine", "day", "now", "we", "see"]


class TinyTalk(SpeechDataModule):
    """Ten utterances of noise by five speakers, two of them held out."""

    def __init__(self, batch_size: int = 4, steps_per_epoch: int = 7) -> None:
        super().__init__(
            batch_size, 12 * HOP / RATE, steps_per_epoch, 3, 0, RATE, HOP, ["t3", "t4"], None
        )

    def read(self) -> SpeechSplits:
        made = []
        for index in range(10):
            text = " ".join(WORDS[index % 5 : index % 5 + 4])
            one = utterance(index, (9 + 2 * index) * HOP + 3 * index, text)
            one.__dict__["speaker"] = f"t{index % 5}"
            one.__dict__["phones"] = torch.arange(one.samples // HOP + 1) // 3 % 4
            one.__dict__["phone_step"] = HOP
            made.append(one)
        return split_speakers(made, self.heldout, "tiny talk")


def tiny_codec(
    seed: int = 1, n_q: int = 3, dim: int = 6, quantizer: Quantizer | None = None
) -> Codec:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Codec(
            MelEncoder(dim, RATE, HOP, 320, 16, 8, 1, 2),
            quantizer or ResidualVQ(dim, n_q, 8),
            SpectrumDecoder(dim, HOP, 320, 8, 1, 2),
            RATE,
            HOP,
        )


def guided(
    guidances: dict[str, Guidance] | None = None, cache: Path | None = None, **kwargs: Any
) -> GuidedCodecDistillation:
    """A codec under a speech teacher, and one of text on all levels."""
    if guidances is None:
        folder = None if cache is None else str(cache)
        guidances = {
            "speech": Guidance(SpeechSource(Loudness(), folder), DAxis(), ramp=5),
            "units": Guidance(SpeechSource(Loudness(), folder), PseudoLabels(4), [2]),
            "text": Guidance(
                TextSource(Letters(), UniformAlignment(), cache=folder), DAxis(), [1, 3], "each"
            ),
        }
    settings: dict[str, Any] = {
        "codec": tiny_codec(),
        "iterations": 20,
        "dropout": 0.5,
        "dropout_by": "item",
        "optimizer": Optimization(lr=3e-3, clip=1.0),
    } | kwargs
    with torch.random.fork_rng():
        torch.manual_seed(2)  # heads start at random
        return GuidedCodecDistillation(
            guidances=guidances,
            spectral=LogMelLoss(RATE, (320,), (16,)),
            **settings,
        )


def codec_teacher(folder: Path) -> CodecTeacher:
    """A finished codec in a file, and it as a teacher of two levels."""
    path = folder / "teacher.safetensors"
    if not path.is_file():
        save_model(tiny_codec(5, 4, 10), path)
    return CodecTeacher(str(path), n_q=2)


def guided_split(**kwargs: Any) -> GuidedCodecDistillation:
    """A split quantiser under timed words, a shuffled teacher, a contrast and a fusion."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        quantizer = SplitResidualVQ(6, 3, 8, 4)
    guidances = {
        "words": Guidance(TextSource(Letters(), IndexAlignment(), Timed()), DAxis()),
        "control": Guidance(Shuffled(SpeechSource(Loudness())), DAxis(), [1, 2, 3], "each"),
        "whole": Guidance(SpeechSource(Loudness()), GlobalContrast(), [2]),
    }
    return guided(
        guidances,
        codec=tiny_codec(quantizer=quantizer),
        fusions={"added": Fusion(Pooled(SpeechSource(Loudness())))},
        unquantized=0.5,
        **kwargs,
    )


def speaker_free(**kwargs: Any) -> GuidedCodecDistillation:
    """Level 1 under loudness, and under an adversary that guesses the voice of it."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        objective = SpeakerFree(SpeakerExtractor(WIDTH, 4, 6), SpeakerExtractor(6, 4, 6))
    guidances = {
        "speech": Guidance(SpeechSource(Loudness()), DAxis()),
        "speaker_free": Guidance(SpeechSource(Loudness()), objective, head="none", ramp=5),
    }
    return guided(guidances, **kwargs)


def codec_to_codec(folder: Path, **kwargs: Any) -> CodecToCodec:
    """A codec of three levels under a wider one of four."""
    with torch.random.fork_rng():
        torch.manual_seed(2)  # heads start at random
        return CodecToCodec(
            codec_teacher(folder),
            tiny_codec(),
            Optimization(lr=3e-3, clip=1.0),
            spectral=LogMelLoss(RATE, (320,), (16,)),
            **({"iterations": 20} | kwargs),
        )
