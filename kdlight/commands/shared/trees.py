"""Verbs from many files to many files: what becomes of which, and what to do about bad ones."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID

from kdlight.commands.parsing.arguments import check_place
from kdlight.errors import InputError
from kdlight.storage.files import require_file

NAMED = 5
"""Bad files that a complaint names at most."""
Item = TypeVar("Item")
Told = Callable[[float], None]
"""Is told the share of a file that is done, 0 to 1."""


def files_of(path: Path, find: Callable[[Path], list[Path]]) -> list[tuple[Path, Path]]:
    """What an input stands for: a file, or all that ``find`` finds below a folder.

    Returns:
        Files, and the place of each below the output: for a file its name, else what it is below
        the folder.

    Raises:
        InputError: The file is missing, or as ``find``.
    """
    if path.is_dir():
        return [(file, file.relative_to(path)) for file in find(path)]
    require_file(path)
    return [(path, Path(path.name))]


def planned(
    inputs: Iterable[Path],
    output: Path,
    listed: Callable[[Path], list[tuple[Item, Path]]],
    suffix: str,
) -> list[tuple[Item, Path]]:
    """Each thing to read and the file to write for it.

    Args:
        inputs: Files and folders.
        output: Folder to write to.
        listed: What an input stands for, as :func:`files_of` lists it.
        suffix: Of what is written.

    Raises:
        InputError: As ``listed``, ``output`` cannot be a folder, or two things would become one.
    """
    if output.is_file():
        raise InputError(f"--output {output}: expected a folder, found a file.")
    check_place(output / "any")
    targets: dict[Path, tuple[Item, Path]] = {}
    for path in inputs:
        for item, place in listed(path):
            target = (output / place).with_suffix(suffix)
            if target in targets:
                raise InputError(
                    f"{path}: {place}: expected a name of its own, found that "
                    f"{targets[target][1]} becomes {target} too."
                )
            targets[target] = item, path
    return [(item, target) for target, (item, _) in targets.items()]


def each_in_turn(
    work: Sequence[tuple[Item, Path]],
    one: Callable[[Item, Path, Told], None],
    output: Path,
    what: str,
) -> None:
    """Make a file of each file, with a bar; one that is bad inside does not keep the others back.

    Args:
        work: What to read and to write, as of :func:`planned`.
        one: Makes one of one, whole or not at all, and may tell how far it is, 0 to 1.
        output: Their folder, which is printed if anything was made.
        what: What goes on, for the bar.

    Raises:
        InputError: Some were bad; the sentence says how many, and what was wrong with the first
            few.
    """
    complaints: list[str] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=len(work))
        for index, (source, target) in enumerate(work):
            try:
                one(source, target, partial(_tell, bar, task, index))
            except InputError as error:
                complaints.append(str(error))
            _tell(bar, task, index, 1.0)
    if len(complaints) < len(work):
        print(output)
    if len(work) == 1 and complaints:
        raise InputError(complaints[0])
    if complaints:
        rest = "the others were" if len(complaints) < len(work) else "none was"
        named = "; ".join(complaint.rstrip(".") for complaint in complaints[:NAMED])
        more = f"; and {len(complaints) - NAMED} more" if len(complaints) > NAMED else ""
        raise InputError(
            f"{len(complaints)} of {len(work)} files could not be done, {rest}: {named}{more}."
        )


def _tell(bar: Progress, task: TaskID, index: int, share: float) -> None:
    bar.update(task, completed=index + share)
