"""``evaluate captions``: do a text-to-image model's pictures show what their captions say?"""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from kdlight.callbacks.images.generation import print_table
from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    check_output,
    inputs_of,
    refuse_idle,
)
from kdlight.commands.shared.foreign import read_picture
from kdlight.commands.shared.processes import processes
from kdlight.errors import InputError
from kdlight.metrics.images.captions import CLIPScore, PreferenceScore
from kdlight.metrics.images.generation import Row
from kdlight.storage.files import write_json
from kdlight.storage.pictures import find_pictures
from kdlight.storage.text import text_beside


def parser() -> Parser:
    """The options of ``evaluate captions``."""
    made = Parser(
        "evaluate captions",
        "The CLIP score of pictures with their captions beside them, cat.png and cat.txt, and what "
        "models of human preference say. For their FID see `evaluate images --samples`.",
        "evaluate captions --samples pictures --clip openai/clip-vit-large-patch14 --output x.json",
    )
    made.add_argument("--samples", type=Path, required=True, help="folder of pictures and captions")
    made.add_argument("--clip", default=None, help="CLIP of transformers: a folder or a hub id")
    made.add_argument(
        "--preference",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="CLIPs trained on preferences: a folder or hub id of transformers (PickScore), or one "
        "with weights of open_clip for it, NAME:FILE.pt (HPS v2)",
    )
    made.add_argument(
        "--processor",
        default=None,
        help="of the --preference models, where it lies apart: a folder or a hub id",
    )
    add_device(made)
    made.add_argument("--output", type=Path, default=None, help="write the row as JSON")
    add_force(made)
    return made


def run(argv: Sequence[str]) -> None:
    """Run ``evaluate captions``."""
    known = parser()
    options = known.parse_args(argv)
    if options.output is not None:
        check_output(options.output, (".json",), inputs_of(options), options.force)
    if options.clip is None and not options.preference:
        raise InputError("expected --clip or --preference to judge by, found neither.")
    if not options.preference:
        refuse_idle(known.typed(argv), ("processor",), "--preference models that it is of")
    pairs = captioned(options.samples)
    metrics = judges(options.clip, options.preference, options.processor)
    with processes(options.device) as process:
        for metric in metrics.values():
            metric.to(process.device)
        for path, caption in track(
            pairs[process.rank :: process.world], transient=True, disable=not process.speaks
        ):
            picture = read_picture(path, 16)[None].to(process.device)
            for metric in metrics.values():
                metric.update(picture, [caption])
        found = {name: metric.compute()[metric.names[0]] for name, metric in metrics.items()}
        if not process.speaks:
            return
    row: Row = {"model": options.samples.stem} | {n: float(value) for n, value in found.items()}
    print_table([row])
    if options.output is not None:
        judged = {"clip": options.clip} if options.clip else {}
        judged |= {"preference": options.preference} if options.preference else {}
        write_json(options.output, [row | judged])
        print(options.output)


def judges(
    clip: str | None, preferences: Sequence[str], processor: str | None
) -> dict[str, CLIPScore]:
    """The metrics that are asked for, by the names of their figures.

    Raises:
        InputError: A model is not there, or two have one name.
    """
    made: dict[str, CLIPScore] = {} if clip is None else {"clip_score": CLIPScore(clip)}
    for text in preferences:
        path, colon, file = text.rpartition(":")
        weights = Path(file) if colon and file.endswith((".pt", ".bin", ".safetensors")) else None
        source = path if weights is not None else text
        name = f"preference_{Path(source).name if weights is None else weights.stem}"
        if name in made:
            raise InputError(f"--preference {text}: expected models of different names.")
        made[name] = PreferenceScore(source, weights, processor)
    return made


def captioned(folder: Path) -> list[tuple[Path, str]]:
    """Pictures and their captions.

    Raises:
        InputError: There are fewer than two, or one has no caption.
    """
    if not folder.is_dir():
        raise InputError(f"--samples {folder}: expected a folder of pictures, found none.")
    pictures = find_pictures(folder)
    if len(pictures) < 2:
        raise InputError(
            f"--samples {folder}: expected at least 2 pictures, found {len(pictures)}."
        )
    pairs = []
    for path in pictures:
        caption = text_beside(path)
        if caption is None:
            raise InputError(f"{path}: expected its caption in {path.stem}.txt beside it.")
        pairs.append((path, caption))
    return pairs
