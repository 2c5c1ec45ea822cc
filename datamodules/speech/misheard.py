"""What a recogniser may have heard: lists of hypotheses through a channel whose law is known."""

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.base import EndlessDataModule
from datamodules.loader import Batch, EvaluationLoader, StreamLoader
from datamodules.order import positive, seeded
from datamodules.speech.voices.formant_phones import NUMBERS, PHONES
from datamodules.speech.voices.formant_score import draw_lexicon
from kdlight.errors import InputError

BLURS = {
    "hiss": ("fricative",),
    "rumble": ("nasal", "glide"),
    "clicks": ("stop",),
    "babble": ("vowel",),
    "street": ("fricative", "vowel"),
    "engine": ("nasal", "glide", "stop"),
}
"""Kinds of noise, and the kinds of phones that each blurs. The last two are never trained on."""
SEEN = ("hiss", "rumble", "clicks", "babble")
FOLLOWERS = 12
"""Words that may follow a word, so that there is a language."""


class Channel(NamedTuple):
    """The laws that lists are drawn from, all (V, V) rows that sum to 1.

    Attributes:
        language: Probability of the next word.
        heard: Of what is heard of a word, by kind of noise and level.
    """

    language: Tensor
    heard: dict[tuple[str, int], Tensor]


class MisheardDataModule(EndlessDataModule):
    """Sentences of an invented language and five hypotheses of each, under noise of known kinds.

    A word is heard as one whose phones differ little where the noise blurs: with level l, as w'
    with a probability in proportion to ``exp(-d(w, w') / l)``, d the phones that differ, those of
    a blurred kind counting a fifth. A list holds what is heard, and four drawn from it by the same
    law: so hypotheses differ where the noise blurs. Substitutions only; every hypothesis has the
    words of the sentence.

    Batches: ``hypotheses`` (B, N, L) and ``truth`` (B, L) int64; ``noisy`` and ``clean`` (B, A),
    what a recogniser's encoder says of the utterance with and without the noise; ``level`` (B,).
    The held-out part has kinds of noise that training never has. Nothing is downloaded.

    Args:
        sentences: Number of training sentences.
        heldout_sentences: Number of the others.
        words: Words V of the language.
        length: Words of a sentence.
        hypotheses: N of a list.
        levels: Levels of noise, from quiet to loud.
        audio: Width A of what is said of the audio.
        corpus: Number of the data set: another one has another language and other draws.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
    """

    def __init__(
        self,
        sentences: int = 4000,
        heldout_sentences: int = 600,
        words: int = 120,
        length: int = 8,
        hypotheses: int = 5,
        levels: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5),
        audio: int = 16,
        corpus: int = 0,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sentences = positive("sentences", sentences)
        self.heldout_sentences = positive("heldout_sentences", heldout_sentences)
        self.words = positive("words", words, FOLLOWERS)
        self.length = positive("length", length)
        self.hypotheses = positive("hypotheses", hypotheses, 2)
        if not levels or min(levels) <= 0:
            raise InputError(f"levels: expected numbers above 0, found {list(levels)}.")
        self.levels = tuple(levels)
        self.audio = positive("audio", audio, len(BLURS) + 1)
        self.corpus = positive("corpus", corpus, 0)
        self.batch_size = positive("batch_size", batch_size)
        self.steps_per_epoch = positive("steps_per_epoch", steps_per_epoch)
        self.seed = positive("seed", seed, 0)

    @cached_property
    def phones(self) -> Tensor:
        """How often each word has each phone, (V, phones) float32."""
        counts = torch.zeros(self.words, len(PHONES))
        for row, word in enumerate(draw_lexicon(self.words, self.corpus)):
            for phone in word.phones:
                counts[row, NUMBERS[phone]] += 1
        return counts

    @cached_property
    def channel(self) -> Channel:
        """The laws, made once."""
        generator = seeded(self.corpus, 5)
        language = torch.zeros(self.words, self.words, dtype=torch.float64)
        for row in range(self.words):
            chosen = torch.randperm(self.words, generator=generator)[:FOLLOWERS]
            language[row, chosen] = torch.rand(FOLLOWERS, generator=generator).double() + 0.1
        language /= language.sum(dim=1, keepdim=True)
        heard = {}
        for kind, blurred in BLURS.items():
            cost = torch.tensor([0.2 if phone.kind in blurred else 1.0 for phone in PHONES])
            weighted = self.phones * cost
            distance = torch.cdist(weighted.double(), weighted.double(), p=1.0) / 2
            for place, level in enumerate(self.levels):
                law = torch.exp(-distance / level)
                heard[kind, place] = law / law.sum(dim=1, keepdim=True)
        return Channel(language, heard)

    def part(self, count: int, kinds: tuple[str, ...], number: int) -> Batch:
        """``count`` sentences under some kinds of noise, drawn from (corpus, number) alone."""
        generator = seeded(self.corpus, 6, number)
        language, heard = self.channel
        truth = torch.empty(count, self.length, dtype=torch.int64)
        truth[:, 0] = torch.randint(self.words, (count,), generator=generator)
        for place in range(1, self.length):
            truth[:, place] = _drawn(language, truth[:, place - 1], generator)
        kind = torch.randint(len(kinds), (count,), generator=generator)
        level = torch.randint(len(self.levels), (count,), generator=generator)
        lists = torch.empty(count, self.hypotheses, self.length, dtype=torch.int64)
        for name, place in heard:
            if name not in kinds:
                continue
            some = (kind == kinds.index(name)) & (level == place)
            law = heard[name, place]
            first = _drawn(law, truth[some], generator)
            rest = [_drawn(law, first, generator) for _ in range(self.hypotheses - 1)]
            lists[some] = torch.stack([first, *rest], dim=1)
        loud = torch.tensor(self.levels)[level]
        said = torch.zeros(count, self.audio)
        for row, name in enumerate(kinds):
            for blurred in BLURS[name]:
                column = ("fricative", "nasal", "glide", "stop", "vowel").index(blurred)
                said[kind == row, column] = loud[kind == row]
        turned = torch.linalg.qr(
            torch.randn(self.audio, self.audio, generator=seeded(self.corpus, 7))
        ).Q
        shake = 0.1 * torch.randn(2, count, self.audio, generator=generator)
        return {
            "hypotheses": lists,
            "truth": truth,
            "noisy": (said + shake[0]) @ turned,
            "clean": shake[1] @ turned,
            "level": loud,
        }

    @cached_property
    def training(self) -> Batch:
        """The training sentences, under the kinds of noise of :data:`SEEN`."""
        return self.part(self.sentences, SEEN, 0)

    @cached_property
    def heldout(self) -> Batch:
        """The other sentences, under the other kinds."""
        unseen = tuple(kind for kind in BLURS if kind not in SEEN)
        return self.part(self.heldout_sentences, unseen, 1)

    def make_train_loader(self) -> StreamLoader:
        """A training loader that starts at the beginning."""
        return StreamLoader(
            self.training, self.batch_size, self.steps_per_epoch, self.seed, *self.ranks
        )

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out sentences in order, once."""
        return EvaluationLoader(self.heldout, self.batch_size, *self.ranks)


def _drawn(laws: Tensor, words: Tensor, generator: torch.Generator) -> Tensor:
    """One draw of the law (V,) of each word, of the shape of ``words``; ``laws`` are (V, V)."""
    count = len(laws)
    # All laws as one ladder, each on a rung of length 1: no law is copied for each word.
    ladder = (laws.cumsum(dim=1) + torch.arange(count)[:, None]).flatten()
    height = words + torch.rand(words.shape, generator=generator, dtype=torch.float64)
    found = torch.searchsorted(ladder, height, right=True) - words * count
    return found.clamp(max=count - 1)
