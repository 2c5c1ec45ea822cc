"""The phones of the formant synthesiser: what the vocal tract aims at in each.

Vowels are the averages of 33 men in Peterson and Barney, "Control methods used in a study of the
vowels" (1952), table II. Consonants have typical values of an adult man: loci of stops after
Delattre, Liberman and Cooper (1955), places of frication after Strevens (1960).
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["silence", "vowel", "glide", "nasal", "fricative", "stop"]


@dataclass(frozen=True)
class Phone:
    """Targets of one phone.

    Attributes:
        name: ARPAbet symbol.
        kind: How it is made.
        formants: First three formants at its start, Hz.
        end: The same at its end, where they differ (diphthongs).
        milliseconds: Usual duration.
        voicing: Level of the glottal source, 0 to 1.
        aspiration: Level of noise at the glottis.
        frication: Level of noise at the constriction.
        place: Centre of the frication's resonance, Hz.
        spread: Bandwidth of it, Hz.
        zero: The nasal tract's antiresonance, Hz; 0 for none.
    """

    name: str
    kind: Kind
    formants: tuple[float, float, float]
    end: tuple[float, float, float] | None = None
    milliseconds: float = 70.0
    voicing: float = 0.0
    aspiration: float = 0.0
    frication: float = 0.0
    place: float = 4000.0
    spread: float = 2000.0
    zero: float = 0.0


def _vowel(
    name: str,
    formants: tuple[float, float, float],
    milliseconds: float,
    end: tuple[float, float, float] | None = None,
) -> Phone:
    return Phone(name, "vowel", formants, end, milliseconds, voicing=1.0)


def _glide(name: str, formants: tuple[float, float, float]) -> Phone:
    return Phone(name, "glide", formants, milliseconds=65, voicing=0.6)


def _nasal(name: str, formants: tuple[float, float, float], zero: float) -> Phone:
    return Phone(name, "nasal", formants, milliseconds=70, voicing=0.5, zero=zero)


def _fricative(
    name: str,
    formants: tuple[float, float, float],
    frication: float,
    place: float,
    spread: float,
    voicing: float = 0.0,
) -> Phone:
    milliseconds = 75 if voicing else 105
    return Phone(
        name, "fricative", formants, None, milliseconds, voicing, 0.0, frication, place, spread
    )


def _stop(
    name: str,
    formants: tuple[float, float, float],
    frication: float,
    place: float,
    spread: float,
    voiced: bool = False,
) -> Phone:
    voicing, aspiration = (0.12, 0.0) if voiced else (0.0, 0.12)
    milliseconds = 75 if voiced else 100
    return Phone(
        name, "stop", formants, None, milliseconds, voicing, aspiration, frication, place, spread
    )


PHONES = (
    Phone("SIL", "silence", (500, 1500, 2500), milliseconds=150),
    _vowel("IY", (270, 2290, 3010), 105),
    _vowel("IH", (390, 1990, 2550), 75),
    _vowel("EH", (530, 1840, 2480), 90),
    _vowel("AE", (660, 1720, 2410), 115),
    _vowel("AH", (640, 1190, 2390), 75),
    _vowel("AA", (730, 1090, 2440), 120),
    _vowel("AO", (570, 840, 2410), 120),
    _vowel("UH", (440, 1020, 2240), 80),
    _vowel("UW", (300, 870, 2240), 105),
    _vowel("ER", (490, 1350, 1690), 110),
    _vowel("EY", (480, 2000, 2600), 125, (330, 2250, 2850)),
    _vowel("AY", (730, 1150, 2450), 150, (370, 2050, 2600)),
    _vowel("OW", (540, 980, 2350), 125, (400, 850, 2250)),
    _vowel("AW", (730, 1230, 2450), 150, (430, 950, 2300)),
    _vowel("OY", (560, 840, 2400), 155, (370, 2050, 2550)),
    _glide("W", (300, 650, 2200)),
    _glide("Y", (270, 2250, 3000)),
    _glide("R", (330, 1150, 1500)),
    _glide("L", (350, 1050, 2850)),
    _nasal("M", (270, 950, 2200), 1100),
    _nasal("N", (270, 1550, 2500), 1750),
    _nasal("NG", (270, 2050, 2600), 3100),
    _fricative("S", (320, 1700, 2600), 0.30, 6300, 2200),
    _fricative("Z", (290, 1700, 2600), 0.16, 6300, 2200, 0.25),
    _fricative("SH", (320, 1900, 2500), 0.34, 3100, 1500),
    _fricative("ZH", (290, 1900, 2500), 0.17, 3100, 1500, 0.25),
    _fricative("F", (340, 1050, 2200), 0.07, 5000, 6000),
    _fricative("V", (300, 1050, 2200), 0.04, 5000, 6000, 0.30),
    _fricative("TH", (320, 1400, 2500), 0.06, 6800, 4500),
    _fricative("DH", (290, 1400, 2500), 0.03, 6800, 4500, 0.30),
    Phone("HH", "fricative", (500, 1500, 2500), milliseconds=65, aspiration=0.16),
    _stop("P", (300, 800, 2200), 0.12, 1000, 1800),
    _stop("B", (250, 800, 2200), 0.10, 1000, 1800, voiced=True),
    _stop("T", (300, 1750, 2600), 0.22, 4800, 2600),
    _stop("D", (250, 1750, 2600), 0.18, 4800, 2600, voiced=True),
    _stop("K", (300, 2100, 2450), 0.22, 2100, 900),
    _stop("G", (250, 2100, 2450), 0.18, 2100, 900, voiced=True),
)
NAMES = tuple(phone.name for phone in PHONES)
NUMBERS = {phone.name: number for number, phone in enumerate(PHONES)}
ONSETS = (
    *("", "P", "B", "T", "D", "K", "G", "M", "N", "F", "V", "TH", "DH", "S", "Z", "SH"),
    *("HH", "W", "Y", "R", "L", "P L", "P R", "B L", "B R", "T R", "D R", "K L", "K R", "G R"),
    *("F L", "F R", "S P", "S T", "S K", "S M", "S N", "S L", "S W", "SH R", "S T R"),
)
"""How a syllable may begin."""
CODAS = (
    *("", "", "", "P", "T", "K", "B", "D", "G", "M", "N", "NG", "S", "Z", "SH", "F", "V", "TH"),
    *("L", "R", "N T", "N D", "M P", "NG K", "S T", "L D", "R T", "T S", "N Z", "K S"),
)
"""How a syllable may end."""
NUCLEI = tuple(phone.name for phone in PHONES if phone.kind == "vowel")
