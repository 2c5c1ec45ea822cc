"""Synthetic speech whose phones, pitch and speakers are known exactly; nothing to download."""

from functools import cached_property

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.order import positive, seeded
from datamodules.speech.base import SpeechDataModule
from datamodules.speech.utterances import SpeechSplits, Utterance, split_speakers
from datamodules.speech.voices.formant_phones import NAMES
from datamodules.speech.voices.formant_score import (
    STEP,
    Word,
    compose,
    draw_lexicon,
    draw_speaker,
    draw_words,
)
from datamodules.speech.voices.formant_synthesis import step_samples, synthesise
from kdlight.errors import InputError


class FormantDataModule(SpeechDataModule):
    """Invented words, spoken by a formant synthesiser in many voices.

    Batches also hold ``phones`` (B, F) int64: the phone in the middle of every frame of the crop,
    0 for silence and padding. Words come from one lexicon, some far oftener than others, so there
    is a language to learn. The data depend on ``corpus`` alone and are the same for any ``seed``.

    Args:
        speakers: Number of voices.
        utterances: Number of sentences of each.
        words: Fewest and most words of a sentence.
        lexicon: Number of different words.
        corpus: Number of the data set: another one has other voices, words and sentences.
        batch_size: Batch size of one rank.
        segment: Length of a training crop, seconds.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the crops.
        sample_rate: Hz, at least 8000.
        hop_length: Samples of one frame of the codec.
        heldout: How many speakers to hold out, or their names (``formant000``, ...).
        heldout_seconds: Cut held-out utterances to this length; None keeps them whole.
    """

    def __init__(
        self,
        speakers: int = 24,
        utterances: int = 12,
        words: tuple[int, int] = (4, 10),
        lexicon: int = 400,
        corpus: int = 0,
        batch_size: int = 16,
        segment: float = 1.0,
        steps_per_epoch: int = 500,
        seed: int = 0,
        sample_rate: int = 16000,
        hop_length: int = 320,
        heldout: int | list[str | int] = 4,
        heldout_seconds: float | None = None,
    ) -> None:
        super().__init__(
            batch_size,
            segment,
            steps_per_epoch,
            seed,
            0,
            positive("sample_rate", sample_rate, 8000),
            hop_length,
            heldout,
            heldout_seconds,
        )
        self.speakers = positive("speakers", speakers)
        self.utterances = positive("utterances", utterances)
        if not 1 <= words[0] <= words[1]:
            raise InputError(f"words: expected fewest and most, found {list(words)}.")
        self.words = words
        self.lexicon = positive("lexicon", lexicon)
        self.corpus = positive("corpus", corpus, 0)

    @property
    def phone_names(self) -> tuple[str, ...]:
        """ARPAbet symbols, in the order of the numbers in ``phones``."""
        return NAMES

    @cached_property
    def all_utterances(self) -> list[Utterance]:
        """All utterances, speaker after speaker, made once."""
        pairs = [(s, u) for s in range(self.speakers) for u in range(self.utterances)]
        bar = tqdm(  # a bar only if it takes longer than two seconds
            pairs, desc="Speaking", delay=2, disable=self.ranks[0] != 0, leave=False
        )
        return [self._speak(speaker, number) for speaker, number in bar]

    @cached_property
    def words_known(self) -> list[Word]:
        """The lexicon, the shortest words first."""
        return draw_lexicon(self.lexicon, self.corpus)

    def parallel(self, utterance: Utterance, speaker: str) -> Utterance:
        """An utterance of this corpus in another voice: the exact target of a conversion.

        Phones, durations, the course of pitch and the draws of all noise are the same; pitch is
        scaled to the other speaker's mean.

        Args:
            utterance: Of :attr:`all_utterances`.
            speaker: Who says it, a name such as ``formant003``, in the training data or not.

        Raises:
            InputError: The corpus has no such speaker.
        """
        names = {draw_speaker(number, self.corpus).name: number for number in range(self.speakers)}
        if speaker not in names:
            raise InputError(
                f"speaker: expected one of {', '.join([*names][:3])}, ..., found {speaker!r}."
            )
        own, _, number = utterance.name.rpartition("-")
        return self._speak(names[own], int(number), names[speaker])

    def retake(self, name: str) -> torch.Tensor:
        """The utterance ``name`` once more, (1, T): the same in all but its noise."""
        speaker, _, number = name.rpartition("-")
        return self._speak(int(speaker.removeprefix("formant")), int(number), retake=True).read()

    def read(self) -> SpeechSplits:
        return split_speakers(self.all_utterances, self.heldout, "formant speech")

    def _speak(
        self, number: int, utterance: int, voice: int | None = None, retake: bool = False
    ) -> Utterance:
        speaker = draw_speaker(number, self.corpus)
        generator = seeded(self.corpus, 2, number, utterance)
        low, high = self.words
        count = int(torch.randint(low, high + 1, (), generator=generator))
        score = compose(draw_words(self.words_known, count, generator), speaker, generator)
        if voice is not None:
            other = draw_speaker(voice, self.corpus)
            score, speaker = score.for_voice(speaker, other), other
        if retake:
            generator = seeded(self.corpus, 3, number, utterance)
        audio = synthesise(score, speaker, self.sample_rate, generator)
        return Utterance(
            name=f"formant{number:03d}-{utterance:04d}",
            source=audio,
            samples=audio.shape[-1],
            sample_rate=self.sample_rate,
            transcript=score.words,
            speaker=speaker.name,
            phones=score.phones,
            phone_step=step_samples(self.sample_rate),
            phone_ends=score.ends,
            f0=score.f0,
            syllables=tuple((STEP * first, STEP * behind) for first, behind in score.syllables),
            nuclei=tuple((STEP * first, STEP * behind) for first, behind in score.nuclei),
        )
