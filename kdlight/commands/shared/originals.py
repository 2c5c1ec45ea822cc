"""What a codec is measured on: originals of a folder or a manifest, and their degraded files."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kdlight.errors import InputError
from kdlight.metrics.speech.catalogue import Sound
from kdlight.metrics.speech.evaluation import check_lengths
from kdlight.storage.audio import audio_info, find_audio
from kdlight.storage.segments import NamedSegment, Segment, is_manifest, read_segments
from kdlight.storage.text import read_lines


def by_name(folder: Path, option: str) -> dict[str, Path]:
    """Audio files of a folder by their path below it, without suffix.

    Raises:
        InputError: No such folder, no audio in it, or two files of one name.
    """
    found: dict[str, Path] = {}
    for path in find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{option} {folder}: expected one file called {name}, found two.")
        found[name] = path
    return found


def originals_of(options: argparse.Namespace) -> list[NamedSegment]:
    """The originals, with their transcripts: of a folder sorted by name, of a manifest as it is.

    Raises:
        InputError: As :func:`by_name` or :func:`~kdlight.storage.segments.read_segments`, or
            some originals have a transcript and others have none.
    """
    if is_manifest(options.reference):
        found = read_segments(options.reference)
    else:
        files = by_name(options.reference, "--reference").items()
        found = [NamedSegment(name, Segment(path), None) for name, path in files]
    found = found[: options.limit]
    if options.transcripts is not None:
        texts = read_transcripts(options.transcripts)
        for index, each in enumerate(found):
            text = texts.get(each.name, texts.get(each.segment.path.stem))
            if text is None:
                raise InputError(
                    f"{options.transcripts}: expected a line for {each.name}, found none."
                )
            found[index] = each._replace(transcript=text)
    without = sum(each.transcript is None for each in found)
    if 0 < without < len(found):
        raise InputError(
            f"{options.reference}: expected a transcript in every row or in none, "
            f"found {without} of {len(found)} rows without."
        )
    return found


def read_transcripts(path: Path) -> dict[str, str]:
    """Transcripts by utterance: a name or path without suffix, a tab, the text.

    Raises:
        InputError: The file is missing, no UTF-8, or a line has no tab.
    """
    texts = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, tab, text = line.partition("\t")
        if line.strip() and not tab:
            raise InputError(f"{path}: line {number}: expected a name, a tab and a text.")
        texts[name] = text
    return texts


def degraded_of(options: argparse.Namespace, originals: Sequence[NamedSegment]) -> dict[str, Path]:
    """The degraded files by the names of the originals.

    Raises:
        InputError: Names are missing, or there are others (unless ``--limit`` leaves some out), or
            a file is much longer or shorter than its original.
    """
    found = by_name(options.degraded, "--degraded")
    names = {original.name for original in originals}
    missing = sorted(names - set(found))
    extra = [] if options.limit else sorted(set(found) - names)
    if missing or extra:
        raise InputError(
            f"--degraded {options.degraded}: expected the names of --reference, found "
            f"{len(missing)} missing ({', '.join(missing[:2]) or 'none'}) and "
            f"{len(extra)} others ({', '.join(extra[:2]) or 'none'})."
        )
    for original in originals:
        path = found[original.name]
        first, second = original.segment.info(), audio_info(path)
        seconds = first.frames / first.sample_rate, second.frames / second.sample_rate
        check_lengths(*seconds, name=str(path))
    return found


def sound_of(segment: Segment) -> Sound:
    """Audio as it is: its recogniser hears it so, whatever rate two files are compared at."""
    return Sound(segment.read()[0], segment.info().sample_rate)
