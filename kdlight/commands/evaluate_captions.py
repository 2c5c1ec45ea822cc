"""``evaluate captions``: do a text-to-image model's pictures show what their captions say?"""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from kdlight.callbacks.generation import print_rows
from kdlight.commands.parsing.arguments import Parser, add_device, add_force, check_output
from kdlight.commands.shared.foreign import read_picture
from kdlight.commands.shared.processes import processes
from kdlight.errors import InputError
from kdlight.metrics.images.captions import CLIPScore
from kdlight.metrics.images.generation import Row
from kdlight.storage.files import write_json
from kdlight.storage.pictures import find_pictures


def parser() -> Parser:
    """The options of ``evaluate captions``."""
    made = Parser(
        "evaluate captions",
        "The CLIP score of pictures with their captions beside them, cat.png and cat.txt. "
        "For their FID see `evaluate images --samples`.",
        "evaluate captions --samples pictures --clip openai/clip-vit-large-patch14 --output x.json",
    )
    made.add_argument("--samples", type=Path, required=True, help="folder of pictures and captions")
    made.add_argument("--clip", required=True, help="CLIP of transformers: a folder or a hub id")
    add_device(made)
    made.add_argument("--output", type=Path, default=None, help="write the row as JSON")
    add_force(made)
    return made


def run(argv: Sequence[str]) -> None:
    """Run ``evaluate captions``."""
    options = parser().parse_args(argv)
    if options.output is not None:
        check_output(options.output, (".json",), (), options.force)
    pairs = captioned(options.samples)
    metric = CLIPScore(options.clip)
    with processes(options.device) as process:
        metric.to(process.device)
        for path, caption in track(
            pairs[process.rank :: process.world], transient=True, disable=not process.speaks
        ):
            metric.update(read_picture(path, 16)[None].to(process.device), [caption])
        figures = metric.compute()
        if not process.speaks:
            return
    row: Row = {"model": options.samples.stem, "clip_score": float(figures["clip_score"])}
    print_rows([row])
    if options.output is not None:
        write_json(options.output, [row | {"clip": options.clip}])
        print(options.output)


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
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            raise InputError(f"{path}: expected its caption in {beside.name} beside it.")
        pairs.append((path, beside.read_text(encoding="utf-8").strip()))
    return pairs
