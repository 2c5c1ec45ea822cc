"""Whole synthetic sentences with their phones, durations and pitch: what synthesis is learnt on."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from datamodules.loader import EvaluationLoader, StreamLoader
from datamodules.order import positive
from datamodules.speech.base import collate_padded
from datamodules.speech.formant import FormantDataModule
from datamodules.speech.utterances import Utterance
from kdlight.errors import InputError


def sentence(utterance: Utterance, hop_length: int) -> dict[str, Any]:
    """A whole utterance, frame by frame and phone by phone.

    Durations are differences of rounded ends, so their sum is the number of frames whatever the
    length; pitch is that in the middle of a frame.

    Returns:
        ``audio`` (1, T), ``lengths`` (), ``phones`` (L,) int64, a phone's number plus one,
        ``durations`` (L,) int64 frames, ``pitch`` (F,) log Hz; ``speaker``, ``path`` and
        ``transcript``.

    Raises:
        InputError: Its phones or its pitch are not known.
    """
    ends, f0, phones = utterance.phone_ends, utterance.f0, utterance.phones
    if ends is None or f0 is None or phones is None:
        raise InputError(f"{utterance.name}: expected known phones and pitch, found none.")
    frames = -(-utterance.samples // hop_length)
    edges = (ends * utterance.phone_step * 2 + hop_length) // (2 * hop_length)
    edges[-1] = frames
    middle = (torch.arange(frames) * hop_length + hop_length // 2) // utterance.phone_step
    return {
        "audio": utterance.read(),
        "lengths": torch.tensor(utterance.samples),
        "phones": phones[ends - 1] + 1,
        "durations": edges.diff(prepend=torch.zeros(1, dtype=torch.long)),
        "pitch": f0[middle.clamp(max=len(f0) - 1)].log().float(),
        "speaker": utterance.speaker,
        "path": utterance.name,
        "transcript": utterance.transcript,
    }


class Sentences:
    """Held-out samples: :func:`sentence` of each utterance."""

    def __init__(self, utterances: Sequence[Utterance], hop_length: int) -> None:
        self.utterances, self.hop_length = utterances, hop_length

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return sentence(self.utterances[key[0]], self.hop_length)


class FormantSentencesDataModule(FormantDataModule):
    """Short sentences of the formant synthesiser, whole, for models that speak.

    Training batches are ``audio`` (B, 1, T), ``lengths`` (B,), ``phones`` (B, L) int64 (number plus
    one, 0 is padding), ``durations`` (B, L) int64 frames, ``pitch`` (B, F) log Hz and ``voice``
    (B,), the number of the speaker among the training speakers, by name. All are padded to
    ``frames``. Held-out batches have the names of :func:`sentence` instead of ``voice``, and are
    padded to their own longest.

    Args:
        speakers: Number of voices.
        utterances: Number of sentences of each.
        words: Fewest and most words of a sentence.
        lexicon: Number of different words.
        corpus: Number of the data set.
        frames: Frames of a training batch; the few sentences that are longer are left out of it.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
        sample_rate: Hz, at least 8000.
        hop_length: Samples of one frame.
        heldout: How many speakers to hold out, or their names.
    """

    def __init__(
        self,
        speakers: int = 32,
        utterances: int = 16,
        words: tuple[int, int] = (2, 3),
        lexicon: int = 400,
        corpus: int = 0,
        frames: int = 80,
        batch_size: int = 16,
        steps_per_epoch: int = 500,
        seed: int = 0,
        sample_rate: int = 16000,
        hop_length: int = 320,
        heldout: int | list[str | int] = 4,
    ) -> None:
        super().__init__(
            speakers,
            utterances,
            words,
            lexicon,
            corpus,
            batch_size,
            1.0,  # no crops
            steps_per_epoch,
            seed,
            sample_rate,
            hop_length,
            heldout,
        )
        self.frames = positive("frames", frames)

    def training_sentences(self) -> dict[str, list[dict[str, Any]]]:
        """The training sentences of every speaker, speakers by name, long ones too."""
        return self._by_speaker(self.splits.training)

    def heldout_sentences(self) -> dict[str, list[dict[str, Any]]]:
        """The same of the speakers that training never hears."""
        return self._by_speaker(self.splits.heldout)

    def _by_speaker(self, utterances: Sequence[Utterance]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for utterance in utterances:
            found.setdefault(utterance.speaker, []).append(sentence(utterance, self.hop_length))
        return dict(sorted(found.items()))

    def setup(self, stage: str | None = None) -> None:
        """Make the sentences.

        Raises:
            InputError: None of them is short enough.
        """
        super().setup(stage)
        _ = self._padded

    @cached_property
    def _padded(self) -> dict[str, Tensor]:
        voices = list(enumerate(self.training_sentences().values()))
        every = [_numbers(each) | {"voice": torch.tensor(n)} for n, said in voices for each in said]
        rows = [row for row in every if len(row["pitch"]) <= self.frames]
        if not rows:
            shortest = min(len(row["pitch"]) for row in every)
            raise InputError(
                f"frames: expected at least {shortest} for the shortest sentence, "
                f"found {self.frames}."
            )
        for row in rows:
            missing = self.frames * self.hop_length - row["audio"].shape[-1]
            row["audio"] = pad(row["audio"], (0, missing))
            row["pitch"] = pad(row["pitch"], (0, self.frames - len(row["pitch"])))
        return collate_padded(rows)

    def make_train_loader(self) -> StreamLoader:
        """A training loader that starts at the beginning."""
        return StreamLoader(
            self._padded, self.batch_size, self.steps_per_epoch, self.seed, *self.ranks
        )

    def heldout_dataloader(self) -> Iterable[dict[str, Any]]:
        """The held-out sentences in order, once; nothing if none is held out."""
        if not self.splits.heldout:
            return []
        return EvaluationLoader(
            Sentences(self.splits.heldout, self.hop_length),
            self.batch_size,
            *self.ranks,
            collate=collate_padded,
        )


def _numbers(row: dict[str, Any]) -> dict[str, Tensor]:
    """What of a sentence is no name."""
    return {name: value for name, value in row.items() if isinstance(value, Tensor)}
