"""Recordings of one voice and of many others, half and half."""

from datamodules.speech.base import SpeechDataModule
from datamodules.speech.utterances import SpeechSplits, Utterance
from kdlight.errors import InputError


class OneVoiceDataModule(SpeechDataModule):
    """The recordings of one voice as often as all others together, for conversion to that voice.

    Args:
        data: Any data of speech, of which the recordings and the held-out speakers are taken.
        target: The voice, as ``data`` names its speaker; not a held-out one.
        batch_size: Batch size of one rank.
        segment: Length of a training crop, seconds.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the crops.
    """

    def __init__(
        self,
        data: SpeechDataModule,
        target: str,
        batch_size: int = 16,
        segment: float = 1.0,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        rate, held = data.sample_rate, data.heldout_samples
        super().__init__(
            batch_size,
            segment,
            steps_per_epoch,
            seed,
            data.num_workers,
            rate,
            data.hop_length,
            data.heldout,
            None if held is None else held / rate,
        )
        self.data = data
        self.target = target

    def read(self) -> SpeechSplits:
        training, heldout = self.data.splits
        own = [utterance for utterance in training if utterance.speaker == self.target]
        others = [utterance for utterance in training if utterance.speaker != self.target]
        if not own or not others:
            names = sorted({utterance.speaker for utterance in training})
            raise InputError(
                f"target: expected one of the training speakers {', '.join(names[:5])}, ..., and "
                f"others beside it, found {self.target!r}."
            )
        return SpeechSplits(own * max(1, round(len(others) / len(own))) + others, heldout)

    def parallel(self, utterance: Utterance, speaker: str) -> Utterance:
        """An utterance in another voice, where ``data`` can tell.

        Raises:
            InputError: They cannot.
        """
        told = getattr(self.data, "parallel", None)
        if told is None:
            raise InputError(
                f"data: expected speech that is known in other voices too, such as "
                f"FormantDataModule, found {type(self.data).__name__}."
            )
        found: Utterance = told(utterance, speaker)
        return found
