"""Objectives that keep who speaks out of what is said: an adversary, and a critic of corpora."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlight.codec.frames import half_masks
from kdlight.core.frozen import held
from kdlight.core.ranges import PositiveFloat
from kdlight.errors import InputError
from kdlight.guidance.objectives import Objective
from kdlight.losses.disentanglement import (
    confusion_loss,
    corpus_loss,
    exposure_loss,
    guess_loss,
    voice_contrast,
)
from kdlight.losses.guidance import mean_where
from kdlight.networks.gradient_reversal import reversed_gradient
from kdlight.networks.speech.sequence_critic import SequenceCritic
from kdlight.networks.speech.speaker import SpeakerExtractor


class SpeakerFree(Objective):
    """Content from which an adversary that learns on cannot guess the voice (SSVC, 2402.03407).

    Nobody names speakers. ``voice`` learns a vector e of the teacher's frames that tells
    recordings apart, two chunks of one being a pair (L_con); ``adversary`` learns to guess e of
    the student's frames; the student learns that the guess says nothing (L_cos). In a codec it
    stands on level 1, and the other levels carry the voice.

    The paper's adversary is ``voice`` itself, held, behind a gradient reversal:
    :class:`ReversedSpeaker`. Nothing has ever taught that one to read content, so content need not
    lose the voice to escape it.

    Args:
        voice: Of the teacher's channels.
        adversary: Of the student's channels, with vectors of the same length.
        hiding: Weight of what the student learns, beside the adversary's own loss.
        temperature: Of the contrast.

    Raises:
        InputError: A width is not that of the teacher, or lengths differ.
    """

    hides = True

    def __init__(
        self,
        voice: SpeakerExtractor,
        adversary: SpeakerExtractor,
        hiding: PositiveFloat = 1.0,
        temperature: PositiveFloat = 0.1,
    ) -> None:
        super().__init__()
        if voice.embedding != adversary.embedding:
            raise InputError(
                f"adversary.embedding: expected {voice.embedding} of the voice, "
                f"found {adversary.embedding}."
            )
        self.voice = voice
        self.adversary = adversary
        self.hiding = hiding
        self.temperature = temperature

    def width(self, teacher: int) -> int:
        if teacher != self.voice.width:
            raise InputError(
                f"voice.width: expected {teacher} of the teacher, found {self.voice.width}."
            )
        return self.adversary.width

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        voice, some, contrast = self.voices(teacher, mask)
        guessed = guess_loss(self.adversary(student.detach(), mask), voice, some)
        with held(self.adversary):
            exposed = exposure_loss(self.adversary(student, mask), voice, some)
        return contrast + guessed + self.hiding * exposed

    def voices(self, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (B, E) of who speaks, held; items that count (B,); the contrast, ()."""
        first, second = half_masks(mask)
        some = first.any(dim=1)  # as long as the second, or a frame shorter
        one, other = self.voice(teacher, first), self.voice(teacher, second)
        contrast = voice_contrast(one, other, some, self.temperature)
        return F.normalize(one + other, dim=-1).detach(), some, contrast


class ReversedSpeaker(SpeakerFree):
    """The control: L_cos as the paper writes it, a held extractor behind a gradient reversal.

    Args:
        voice: Of the channels that teacher and student both have.
        hiding: Scale of the reversed gradient.
        temperature: Of the contrast.
    """

    def __init__(
        self,
        voice: SpeakerExtractor,
        hiding: PositiveFloat = 1.0,
        temperature: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(voice, voice, hiding, temperature)

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        voice, some, contrast = self.voices(teacher, mask)
        with held(self.voice):
            guess = self.voice(reversed_gradient(student, self.hiding), mask)
        return contrast + guess_loss(guess, voice, some)


class OneCorpus(Objective):
    """Frames of any recording pass for those of a target corpus (arXiv:2305.09167).

    The critic tells the target corpus from other recordings; the student learns that it cannot.
    No speaker is named: the teacher's one channel is 1 in recordings of the target, else 0, as
    :class:`~kdlight.guidance.sources.CorpusSource` gives it.

    Args:
        critic: Of the student's channels.
        hiding: Weight of what the student learns, beside the critic's own loss.

    Attributes:
        right: Share of the frames that the critic put into the right corpus last, (): 1 leaves the
            student no gradient to follow, 1/2 from the start says that the critic is too weak.
    """

    hides = True
    right: Tensor

    def __init__(self, critic: SequenceCritic, hiding: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.critic = critic
        self.hiding = hiding
        self.right = torch.tensor(torch.nan)

    def width(self, teacher: int) -> int:
        return self.critic.width

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        target = (teacher[..., 0] > 0.5).any(dim=1)
        logits = self.critic(student.detach(), mask)
        with torch.no_grad():
            self.right = mean_where(((logits > 0.5) == target[:, None]).float(), mask)
        told_apart = corpus_loss(logits, target, mask)
        with held(self.critic):
            passed = confusion_loss(self.critic(student, mask), target, mask)
        return told_apart + self.hiding * passed
