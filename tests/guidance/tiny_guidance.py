"""Small teachers and batches that several tests of guidance share."""

from typing import Any

import torch
from torch import Tensor

from datamodules.speech.utterances import Utterance
from kdlight.codec.alignment import Aligned, TimedWord
from kdlight.codec.frames import FrameGrid
from kdlight.guidance.sources import FeatureSource
from kdlight.guidance.words import WordTimer
from kdlight.teachers.frames import FrameTeacher, Source
from kdlight.teachers.text import TextStates, TextTeacher

RATE, HOP, WIDTH = 16_000, 160, 3
GRID = FrameGrid(RATE, HOP)


class Loudness(FrameTeacher):
    """Mean, mean square and a constant of each frame: what a frame says depends on it alone."""

    def __init__(self, hop_length: int = HOP, sample_rate: int = RATE) -> None:
        super().__init__()
        self.sample_rate, self.hop_length, self.width = sample_rate, hop_length, WIDTH
        self.weight = torch.nn.Parameter(torch.tensor([3.0, 5.0, 1.0]))
        self.freeze()

    def states(self, audio: Tensor) -> Tensor:
        fill = -audio.shape[1] % self.hop_length
        frames = torch.nn.functional.pad(audio, (0, fill)).unflatten(1, (-1, self.hop_length))
        parts = [frames.mean(2), frames.square().mean(2), torch.ones(frames.shape[:2])]
        return torch.stack(parts, 2) * self.weight


class Letters(TextTeacher):
    """One token a word: its length, its first letter and its number in the text."""

    def __init__(self, limit: int = 100) -> None:
        super(TextTeacher, self).__init__()
        self.width, self.limit = WIDTH, limit
        self.asked = 0

    def identity(self) -> dict[str, Any]:
        return {"class": "Letters"}

    def forward(self, texts: list[str]) -> TextStates:
        raise AssertionError("asked one by one")

    def describe(self, source: Source) -> dict[str, Tensor]:
        self.asked += 1
        offsets, states, place = [(0, 0)], [[9e3, 9e3, 9e3]], 0  # a token that is no text
        for number, word in enumerate(str(source).split()[: self.limit - 1], start=1):
            offsets.append((place, place + len(word)))
            states.append([float(len(word)), float(ord(word[0])), float(number)])
            place += len(word) + 1
        tokens = torch.arange(len(states)) > 0
        return {
            "states": torch.tensor(states),
            "tokens": tokens,
            "offsets": torch.tensor(offsets),
            "sentence": torch.tensor([1.0, 2.0, float(len(states))]),
        }


class Timed(WordTimer):
    """Every word lasts 50 ms, after 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def words(self, utterance: Any) -> list[TimedWord]:
        self.asked += 1
        words = utterance.transcript.split()
        return [
            TimedWord(word, 0.02 + 0.05 * place, 0.07 + 0.05 * place)
            for place, word in enumerate(words)
        ]

    def identity(self) -> dict[str, Any]:
        return {"pace": 0.05}


class FourAxes(FeatureSource):
    """A source that forgets to drop an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = Loudness()
        self.width = WIDTH

    def examples(self, utterances: Any) -> Any:
        return iter(())

    def features(self, batch: Any, grid: FrameGrid, student: Tensor) -> Any:
        shape = (len(student), 1, student.shape[1], WIDTH)
        return Aligned(torch.ones(shape), torch.ones(student.shape[:2], dtype=torch.bool))


def utterance(index: int, samples: int, text: str = "", **facts: Any) -> Utterance:
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(index))
    return Utterance(f"u{index}", 0.1 * noise, samples, RATE, text, f"s{index % 3}", **facts)


def crop(utterances: list[Utterance], starts: list[int], samples: int) -> dict[str, Any]:
    """A batch as the data modules make it."""
    audio, lengths = [], []
    for each, start in zip(utterances, starts, strict=True):
        part = each.read(start, samples)
        lengths.append(part.shape[-1])
        audio.append(torch.nn.functional.pad(part, (0, samples - part.shape[-1])))
    return {
        "audio": torch.stack(audio),
        "lengths": torch.tensor(lengths),
        "start": torch.tensor(starts),
        "total": torch.tensor([each.samples for each in utterances]),
        "transcript": [each.transcript for each in utterances],
        "speaker": [each.speaker for each in utterances],
        "path": [each.name for each in utterances],
    }
