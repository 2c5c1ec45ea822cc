"""Speakers and what they say: phones with exact durations, and a contour of pitch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datamodules.order import seeded
from datamodules.speech.voices.formant_phones import CODAS, NUCLEI, NUMBERS, ONSETS, PHONES

STEP = 0.005
"""Seconds of one step of all contours; boundaries of phones fall on steps."""


@dataclass(frozen=True)
class Speaker:
    """A voice.

    Attributes:
        name: Unique name.
        f0: Mean fundamental frequency, Hz.
        scale: Formants relative to an average man's; 1.17 is about a woman's.
        tilt: Coefficient of the one-pole low-pass on the glottal pulses, 0 to 1.
        open_quotient: Part of a period in which the glottis is open.
        breath: Noise at the glottis while it vibrates, relative to it.
        rate: Speaking rate, 1 = usual.
        jitter: Standard deviation of f0 from step to step, relative.
    """

    name: str
    f0: float
    scale: float = 1.0
    tilt: float = 0.3
    open_quotient: float = 0.6
    breath: float = 0.03
    rate: float = 1.0
    jitter: float = 0.005


@dataclass(frozen=True)
class Word:
    """A word of the lexicon.

    Attributes:
        syllables: Phones of each of its syllables.
    """

    syllables: tuple[tuple[str, ...], ...]

    @property
    def phones(self) -> tuple[str, ...]:
        """Phones of all syllables in order."""
        return tuple(phone for syllable in self.syllables for phone in syllable)


@dataclass(frozen=True, eq=False)
class Score:
    """One utterance as the synthesiser reads it; every tensor is (N,), one entry a step.

    Attributes:
        phones: Numbers in :data:`~datamodules.speech.voices.formant_phones.PHONES`, int64.
        place: Where in its phone a step is, 0 to 1.
        left: Steps to the end of the phone, the step itself counted, int64.
        f0: Fundamental frequency, Hz.
        words: Phones of every word, ``hh-ah-l-ow``, with spaces between.
        syllables: First step of every syllable, and the step behind its last.
        nuclei: The same of each syllable's vowel.
    """

    phones: Tensor
    place: Tensor
    left: Tensor
    f0: Tensor
    words: str
    syllables: tuple[tuple[int, int], ...] = ()
    nuclei: tuple[tuple[int, int], ...] = ()

    @property
    def ends(self) -> Tensor:
        """The step behind the last of every phone, (L,) int64; equal neighbours are two phones."""
        return (self.left == 1).nonzero()[:, 0] + 1

    def for_voice(self, speaker: Speaker, other: Speaker) -> "Score":
        """The same reading on the pitch of ``other``: what parallel speech is made of.

        Durations stay: the rate was ``speaker``'s choice, and content and prosody are to be equal.
        """
        return replace(self, f0=self.f0 * (other.f0 / speaker.f0))


def draw_speaker(number: int, corpus: int) -> Speaker:
    """Speaker ``number`` of a corpus: size of the head, and a pitch that mostly goes with it."""
    draw = torch.rand(7, generator=seeded(corpus, 0, number), dtype=torch.float64).tolist()
    scale = 0.93 + 0.29 * draw[0]
    return Speaker(
        name=f"formant{number:03d}",
        f0=105 * 2 ** (4.2 * (scale - 1)) * (0.88 + 0.27 * draw[1]),
        scale=scale,
        tilt=0.1 + 0.5 * draw[2],
        open_quotient=0.5 + 0.25 * draw[3],
        breath=0.01 + 0.05 * draw[4],
        rate=0.85 + 0.35 * draw[5],
        jitter=0.003 + 0.005 * draw[6],
    )


def draw_lexicon(size: int, corpus: int) -> list[Word]:
    """Words of one to three syllables; the first have the fewest phones."""
    generator = seeded(corpus, 1)

    def pick(options: Sequence[str]) -> list[str]:
        return options[int(torch.randint(len(options), (), generator=generator))].split()

    # Words that sound the same are one, however their syllables part.
    words: dict[tuple[str, ...], Word] = {}
    while len(words) < size:
        syllables = 1 + int(
            torch.multinomial(torch.tensor([0.5, 0.35, 0.15]), 1, generator=generator)
        )
        word = Word(
            tuple(tuple(pick(ONSETS) + pick(NUCLEI) + pick(CODAS)) for _ in range(syllables))
        )
        words.setdefault(word.phones, word)
    return sorted(words.values(), key=lambda word: len(word.phones))


def draw_words(lexicon: list[Word], count: int, generator: torch.Generator) -> list[Word]:
    """Words of a sentence; word n of the lexicon is as frequent as Zipf's law says, 1 / (n + 2)."""
    weights = 1 / (torch.arange(len(lexicon), dtype=torch.float64) + 2)
    chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
    return [lexicon[index] for index in chosen.tolist()]


def compose(words: Sequence[Word], speaker: Speaker, generator: torch.Generator) -> Score:
    """Give the phones of a sentence durations, and the sentence a contour of pitch.

    Pitch falls over the sentence, rises on most first vowels of words, and is a little unsteady.

    Args:
        words: What is said.
        speaker: Who speaks.
        generator: Of everything that varies from one reading to another.
    """
    names, accents = ["SIL"], [0.0]
    places: list[tuple[int, int]] = []  # of syllables among the phones
    for word in words:
        accent = 0.05 + 0.15 * float(torch.rand((), generator=generator))
        for syllable in word.syllables:
            places.append((len(names), len(names) + len(syllable)))
            for name in syllable:
                vowel = name in NUCLEI
                names.append(name)
                accents.append(accent if vowel else 0.0)
                accent = 0.0 if vowel else accent
        if word is not words[-1] and torch.rand((), generator=generator) < 0.12:
            names.append("SIL")
            accents.append(0.0)
    names.append("SIL")
    accents.append(0.0)

    numbers = torch.tensor([NUMBERS[name] for name in names])
    usual = torch.tensor([PHONES[NUMBERS[name]].milliseconds for name in names])
    stretch = 1 + 0.15 * torch.randn(len(names), generator=generator).clamp(-2, 2)
    stretch *= 1 + torch.tensor(accents)
    stretch[-3:-1] *= 1.3  # the last syllable of a sentence is long
    steps = (usual * stretch / speaker.rate / (1000 * STEP)).round().long().clamp(min=4)

    phones = numbers.repeat_interleave(steps)
    ends = steps.cumsum(0).repeat_interleave(steps)
    left = ends - torch.arange(len(phones))
    place = 1 - (left - 0.5) / steps.repeat_interleave(steps)
    fall = torch.linspace(0.08, -0.12, len(phones))
    raised = smooth(torch.tensor(accents).repeat_interleave(steps)[:, None], 31)[:, 0]
    contour = 1 + fall + raised
    contour = contour / contour.mean()
    shake = smooth(torch.randn(len(phones), 1, generator=generator), 3)[:, 0]
    f0 = speaker.f0 * contour * (1 + speaker.jitter * shake)
    text = " ".join("-".join(name.lower() for name in word.phones) for word in words)
    edges = [0, *steps.cumsum(0).tolist()]
    syllables = tuple((edges[first], edges[behind]) for first, behind in places)
    vowels = [place for place, name in enumerate(names) if name in NUCLEI]
    nuclei = tuple((edges[place], edges[place + 1]) for place in vowels)
    return Score(phones, place, left, f0, text, syllables, nuclei)


def smooth(tracks: Tensor, width: int) -> Tensor:
    """Moving Hann average of tracks (N, C) over an odd ``width`` of steps; the ends go on."""
    window = torch.hann_window(width + 2, periodic=False, dtype=tracks.dtype)[1:-1]
    half = width // 2
    rows = torch.cat([tracks[:1].expand(half, -1), tracks, tracks[-1:].expand(half, -1)])
    return (rows.unfold(0, width, 1) * (window / window.sum())).sum(-1)
