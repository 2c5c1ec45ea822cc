"""Cases of speech."""

from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import lightning as L
import torch

from datamodules.speech.misheard import MisheardDataModule
from datamodules.speech.one_voice import OneVoiceDataModule
from kdlight.codec.balancer import GradientBalancer
from kdlight.codec.frame_rate import MelEncoder
from kdlight.codec.syllable_encoder import SyllableEncoder
from kdlight.guidance.disentanglement import OneCorpus
from kdlight.guidance.speech import SpeechSource
from kdlight.losses.spectral import LogMelLoss
from kdlight.networks.speech.converter import VoiceConverter
from kdlight.networks.speech.period import MultiPeriodDiscriminator
from kdlight.networks.speech.sequence_critic import SequenceCritic
from kdlight.networks.text.corrector import Corrector, PairCritic
from kdlight.training.optim import Optimization
from modules.speech.adversarial_conversion import AdversarialConversion
from modules.speech.codec_training import CodecTraining
from modules.speech.noise_aware_correction import NoiseAwareCorrection
from modules.speech.syllable_distillation import SyllableDistillation
from modules.speech.timbre_factorisation import TimbreFactorisation
from tests.exactness.harness import Case
from tests.guidance.tiny_guidance import HOP, Loudness
from tests.modules.speech.guided_cases import (
    RATE,
    TinyTalk,
    codec_to_codec,
    guided,
    guided_split,
    speaker_free,
    tiny_codec,
)
from tests.modules.speech.spoken_cases import (
    semantic_to_acoustic,
    spoken_tokens,
    text_to_semantic,
)
from tests.modules.speech.synthesis_cases import prodiff, short_sentences, synthesis_training
from tests.modules.speech.timbre_cases import tiny_converter


def codec_training(**kwargs: Any) -> CodecTraining:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        discriminator = MultiPeriodDiscriminator([2, 3], channels=2)
    return CodecTraining(
        tiny_codec(),
        # Without an offset Adam makes whole steps of the rounding of small gradients.
        Optimization(lr=1e-3, eps=1e-3, clip=1.0),
        iterations=20,
        discriminator=discriminator,
        discriminator_optimizer=Optimization(lr=1e-3, eps=1e-3),
        spectral=LogMelLoss(RATE, (320,), (16,)),
        adversarial_loss="hinge",
        relative_features=True,
        balancer=GradientBalancer(0.9),
        warmup=3,
        dropout=0.5,
        **kwargs,
    )


def talk(batch_size: int) -> L.LightningDataModule:
    """Utterances: a third of the batch that images have."""
    return TinyTalk(batch_size // 3)


def syllable_distillation(**kwargs: Any) -> SyllableDistillation:
    """Two stages under loudness, many items noisy."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        student = SyllableEncoder(MelEncoder(3, RATE, HOP, 320, 16, 8, 1, 2), 3, RATE, HOP)
    return SyllableDistillation(
        student,
        SpeechSource(Loudness()),
        Optimization(lr=3e-3, clip=1.0),
        stage_iterations=[12, 8],
        rate=20.0,
        noisy=0.6,
        **kwargs,
    )


def one_voice(batch_size: int) -> OneVoiceDataModule:
    return OneVoiceDataModule(TinyTalk(), "t0", batch_size // 3, 12 * HOP / RATE, 7, 3)


def adversarial_conversion(**kwargs: Any) -> AdversarialConversion:
    """Loudness to 16 bands of the voice t0, under both critics."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        converter = VoiceConverter(3, 16, RATE, HOP, 4, 6, 1)
        critics = {
            "content": OneCorpus(SequenceCritic(4, 4, 2)),
            "mel": OneCorpus(SequenceCritic(16, 4, 2)),
        }
    settings = {"critics": critics, "iterations": 20, "ramp": 4} | kwargs
    return AdversarialConversion(
        converter, SpeechSource(Loudness()), "t0", Optimization(lr=3e-3, clip=1.0), **settings
    )


def misheard(batch_size: int) -> MisheardDataModule:
    # With a vocabulary that divides the places of a joint batch (48), a word heard as often as it
    # is said has a first gradient of exactly 0, whose rounding Adam turns into a step.
    return MisheardDataModule(
        100, 40, 13, 4, 3, audio=8, batch_size=batch_size, steps_per_epoch=7, seed=3
    )


def noise_aware(**kwargs: Any) -> NoiseAwareCorrection:
    """Lists of three, noise told from that of others."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        corrector, critic = Corrector(13, 38, 3, 8, 1, 2), PairCritic(8, 8, 8)
    return NoiseAwareCorrection(
        corrector,
        Optimization(lr=2e-3, clip=1.0),
        critic=critic,
        **({"iterations": 20} | kwargs),
    )


def timbre(**kwargs: Any) -> TimbreFactorisation:
    """Ten tokens' worth of noise, then its own twins."""
    settings = {"stage_iterations": [12, 8], "plain": 0.3} | kwargs
    return TimbreFactorisation(
        tiny_converter(RATE, HOP), Optimization(lr=3e-3, eps=1e-3, clip=1.0), **settings
    )


SPEECH = {
    "noise_aware_correction": Case(noise_aware, 20, data_module=misheard),
    "adversarial_conversion": Case(adversarial_conversion, 20, data_module=one_voice),
    "codec_training": Case(codec_training, 20, (3,), data_module=talk),
    "guided_codec": Case(guided, 20, data_module=talk),
    "guided_split_codec": Case(guided_split, 20, data_module=talk),
    "speaker_free_codec": Case(speaker_free, 20, data_module=talk),
    "syllable_distillation": Case(syllable_distillation, 20, (12,), data_module=talk),
    "synthesis_training": Case(synthesis_training, 20, data_module=short_sentences),
    "prodiff": Case(prodiff, 16, (8,), data_module=short_sentences),
    "text_to_semantic": Case(text_to_semantic, 20, data_module=spoken_tokens),
    "semantic_to_acoustic": Case(semantic_to_acoustic, 20, data_module=spoken_tokens),
    "timbre_factorisation": Case(timbre, 20, (12,), data_module=talk),
    "codec_to_codec": Case(partial(codec_to_codec, Path(mkdtemp())), 20, data_module=talk),
}
