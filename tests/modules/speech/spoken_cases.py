"""Tiny writers and fillers of codes, and the sentences that they learn."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from datamodules.speech.formant_sentences import FormantSentencesDataModule
from datamodules.speech.spoken_tokens import SpokenTokensDataModule
from kdlight.codec.codec import Codec
from kdlight.codec.frame_rate import MelEncoder, SpectrumDecoder
from kdlight.codec.quantization import ResidualVQ
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.storage.files import save_model
from kdlight.training.optim import Optimization
from modules.speech.semantic_to_acoustic import SemanticToAcoustic
from modules.speech.text_to_semantic import TextToSemantic

RATE, HOP = 8000, 160


def sentence_codec(seed: int = 1) -> Codec:
    """Three levels of 8 codes at 8 kHz."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Codec(
            MelEncoder(6, RATE, HOP, 320, 16, 8, 1, 2),
            ResidualVQ(6, 3, 8),
            SpectrumDecoder(6, HOP, 320, 8, 1, 2),
            RATE,
            HOP,
        )
        made.quantizer(torch.randn(4, 6, 50))  # codebooks start from latents
    return made.eval()


def saved_codec(folder: Path | None = None, seed: int = 1) -> str:
    path = (folder or Path(mkdtemp())) / f"codec_{seed}.safetensors"
    save_model(sentence_codec(seed), path, {})
    return str(path)


CODEC = saved_codec()


@cache
def sentences() -> FormantSentencesDataModule:
    """Twelve words of three voices, two to train on."""
    return FormantSentencesDataModule(
        speakers=3,
        utterances=4,
        words=(1, 1),
        lexicon=20,
        sample_rate=RATE,
        hop_length=HOP,
        heldout=1,
    )


def spoken_tokens(batch_size: int = 12, **settings: Any) -> SpokenTokensDataModule:
    """Their codes, a third of the batch."""
    given = {"codec": CODEC, "frames": 40, "steps_per_epoch": 7} | settings
    return SpokenTokensDataModule(sentences(), batch_size=batch_size // 3, **given)


def tiny_writer(seed: int = 3, dropout: float = 0.0) -> SemanticWriter:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = SemanticWriter(8, 16, 1, 2, dropout)
        torch.nn.init.normal_(made.network.head.weight, std=0.1)
    return made


def tiny_filler(seed: int = 4, dropout: float = 0.0) -> AcousticFiller:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AcousticFiller(8, 3, 6, 2, 16, 2, 2, 3, dropout)
        torch.nn.init.normal_(made.heads, std=0.1)
    return made


def text_to_semantic(**kwargs: Any) -> TextToSemantic:
    # Few words leave some gradients at rounding, which Adam would make steps of.
    settings = Optimization(lr=3e-3, eps=1e-3, clip=1.0)
    return TextToSemantic(tiny_writer(), settings, **({"iterations": 20} | kwargs))


def semantic_to_acoustic(**kwargs: Any) -> SemanticToAcoustic:
    settings = Optimization(lr=3e-3, eps=1e-3, clip=1.0)
    return SemanticToAcoustic(tiny_filler(), settings, **({"iterations": 20} | kwargs))
