"""espeak-ng through its C library: speech with the time of every word."""

import ctypes
import ctypes.util
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datamodules.speech.voices.engines import WORDS, Speech, spread_words
from kdlight.errors import InputError

SYNCHRONOUS, UTF8, DO_NOT_EXIT = 2, 1, 0x8000
WORD, LIST_END = 1, 0
RATE, PITCH = 1, 3
"""Numbers of the library's header, ``speak_lib.h``."""


class _Event(ctypes.Structure):
    """``espeak_EVENT``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class EspeakVoice:
    """A voice of espeak-ng as a speaker.

    Attributes:
        voice: Language and variant, ``en-us+f3``.
        pitch: 0 to 99; 50 is the voice's own.
        rate: Words a minute, 80 to 450.
    """

    voice: str
    pitch: int = 50
    rate: int = 165

    @property
    def speaker(self) -> str:
        return f"espeak-{self.voice}-{self.pitch}-{self.rate}"

    def identity(self) -> dict[str, str | int | float]:
        found = loaded()
        return {
            "engine": "espeak-ng",
            "version": "" if found is None else found[2],
            "voice": self.voice,
            "pitch": self.pitch,
            "rate": self.rate,
        }

    def speak(self, text: str) -> Speech:
        """Say ``text``.

        Raises:
            InputError: espeak-ng is not there, or does not know the voice.
        """
        return _say(text, self)


VOICES = (
    EspeakVoice("en-us+m1", 45, 165),
    EspeakVoice("en-us+f1", 55, 170),
    EspeakVoice("en+m3", 38, 155),
    EspeakVoice("en-us+f2", 62, 180),
    EspeakVoice("en-gb-x-rp+m5", 50, 160),
    EspeakVoice("en-us+f4", 48, 150),
    EspeakVoice("en-gb-scotland+m7", 42, 170),
    EspeakVoice("en-us+m8", 58, 185),
)
"""Eight speakers of English: men and women, three accents and more, slow and fast."""


@functools.cache
def loaded() -> tuple[Any, int, str] | None:
    """The initialised library, its sample rate and its version; None if it is not there."""
    found = _locate()
    if found is None:
        return None
    path, data = found
    try:
        lib = ctypes.CDLL(path)
    except OSError:
        return None
    lib.espeak_Info.restype = ctypes.c_char_p
    size, number = ctypes.c_size_t, ctypes.c_uint
    lib.espeak_Synth.argtypes = (
        *(ctypes.c_char_p, size, number, ctypes.c_int, number, number),
        *(ctypes.c_void_p, ctypes.c_void_p),
    )
    rate = lib.espeak_Initialize(SYNCHRONOUS, 0, data.encode() if data else None, DO_NOT_EXIT)
    if rate <= 0:
        return None
    return lib, rate, lib.espeak_Info(None).decode().split()[0]


def _locate() -> tuple[str, str | None] | None:
    """The library and its data: those of the Python package, else those of the system."""
    try:
        import espeakng_loader
    except ImportError:
        path = ctypes.util.find_library("espeak-ng")
        return None if path is None else (path, None)
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _say(text: str, voice: EspeakVoice) -> Speech:
    """Say ``text``. Not for threads: the library has one global state.

    Raises:
        InputError: espeak-ng is not there, or does not know the voice.
    """
    found = loaded()
    if found is None:
        raise InputError("espeak-ng: expected its library, found none.")
    lib, rate, _ = found
    if lib.espeak_SetVoiceByName(voice.voice.encode()) != 0:
        raise InputError(f"espeak-ng: expected one of its voices, found {voice.voice!r}.")
    for parameter, value in ((RATE, voice.rate), (PITCH, voice.pitch)):
        lib.espeak_SetParameter(parameter, value, 0)
    pieces: list[np.ndarray[Any, np.dtype[np.int16]]] = []
    places: list[tuple[float, int]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != LIST_END:
            event = events[index]
            if event.type == WORD:
                places.append((event.audio_position / 1000, event.text_position - 1))
            index += 1
        return 0

    callback = _Callback(receive)  # kept alive until the call below is over
    lib.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    lib.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, UTF8, None, None)
    lib.espeak_Synchronize()
    if not pieces or not places:
        raise InputError(f"espeak-ng: expected speech for {text!r}, found none.")
    audio = torch.from_numpy(np.concatenate(pieces).astype(np.float32) / 32768)[None]
    return Speech(audio, rate, spread_words(_parts(text, places), audio.shape[-1] / rate))


def _parts(text: str, places: list[tuple[float, int]]) -> list[tuple[float, list[str]]]:
    """When words start, and the words to the next event: some are spoken as one (in the).

    Args:
        text: What is said.
        places: Second and position in the text of every event, which may lie inside a word.
    """
    words = list(WORDS.finditer(text))
    firsts: list[tuple[float, int]] = []
    for second, place in places:
        index = sum(word.end() <= place for word in words)
        if index < len(words) and (not firsts or index > firsts[-1][1]):
            firsts.append((second, index if firsts else 0))
    stops = [index for _, index in firsts[1:]] + [len(words)]
    return [
        (second, [word.group() for word in words[index:stop]])
        for (second, index), stop in zip(firsts, stops, strict=False)
    ]
