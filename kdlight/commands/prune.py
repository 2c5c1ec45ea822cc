"""``prune``: a smaller transformer with the weights of the parts that do most."""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    check_output,
    check_place,
    positive,
    whole,
)
from kdlight.commands.shared.causal import read_causal
from kdlight.commands.shared.token_data import read_data
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.export.language_model import export_language_model
from kdlight.networks.text.pretrained import CausalLM
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.files import save_model, sha256_of, write_json
from kdlight.storage.tokenizers import Tokenizer
from kdlight.surgery.anatomy import Anatomy
from kdlight.surgery.families import anatomy_of
from kdlight.surgery.importance import Importance, loss_without_layers, measure
from kdlight.surgery.pruning import every, prune, shuffled

RECORD = "pruning.json"
WORDS_OF = ("tokenizer", "special_tokens", "added_tokens", "vocab", "merges", "chat_template")
"""How the names of the files begin that a tokenizer is made of."""


def parser() -> Parser:
    """The options of ``prune``."""
    made = Parser(
        "prune",
        "Cut a causal transformer to a smaller one (Minitron): its parts are scored by what they "
        "do on calibration data, the best stay, and nothing is trained. Distil it afterwards with "
        "the original as the teacher. Takes kdlight's own transformer, and Llama, Mistral, Qwen2, "
        "Qwen3 and GPT-2 of transformers.",
        "prune runs/oracle_language_teacher/version_0/checkpoints/last.ckpt --keep mlp=24 "
        "--output runs/pruned/mlp24.safetensors",
    )
    made.add_argument(
        "checkpoint", type=Path, help="checkpoint, .safetensors model, or folder of transformers"
    )
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    made.add_argument(
        "--keep",
        type=part,
        nargs="+",
        required=True,
        metavar="PART=N",
        help="how many stay of layers, width (channels of a token), mlp (hidden units of every "
        "block) and heads (with the keys that they share); what is not named stays whole",
    )
    made.add_argument(
        "--calibration",
        type=Path,
        default=None,
        metavar="PATH",
        help="a configuration (.yaml) whose training data are read, or texts (default: the run's "
        "own configuration)",
    )
    made.add_argument("--samples", type=positive, default=1024, help="rows of the calibration")
    made.add_argument(
        "--length", type=positive, default=512, help="tokens of a row, for a folder of transformers"
    )
    made.add_argument(
        "--rank-by",
        choices=("activation", "random"),
        default="activation",
        help="what scores the parts; random is the control",
    )
    made.add_argument(
        "--layers-by",
        choices=("influence", "loss", "every"),
        default="influence",
        help="what scores layers: 1 - cos of what goes in and what comes out, the loss without "
        "them, or evenly spaced ones stay (default: influence)",
    )
    made.add_argument("--seed", type=whole, default=0, help="seed of rows and of random scores")
    made.add_argument("--batch-size", type=positive, default=32, help="rows at once")
    add_device(made)
    made.add_argument(
        "--output",
        type=Path,
        required=True,
        help=".safetensors file, or a folder for transformers",
    )
    add_force(made)
    return made


def part(text: str) -> tuple[str, int]:
    """A part and how many of it stay, such as ``mlp=48``."""
    name, equals, number = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected PART=N such as mlp=48, found {text!r}")
    return name, whole(number)


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``prune``."""
    options = parser().parse_args(argv)
    to_file = options.output.suffix == ".safetensors"
    if to_file:
        check_output(options.output, (".safetensors",), [options.checkpoint], options.force)
    else:
        _check_folder(options.output, options.checkpoint)
    model, tokenizer = read_causal(options.checkpoint, options.length, options.model)
    if not to_file and not isinstance(model.network, CausalLM):
        raise InputError(
            f"--output {options.output}: expected a name that ends in .safetensors for a model "
            "that is none of transformers."
        )
    anatomy = anatomy_of(model.network)
    keep = _kept(options.keep, anatomy)
    batches = list(calibration(options, model, tokenizer))
    model.to(options.device).eval()
    importance = scores(options, model, anatomy, batches)
    smaller = prune(model, anatomy, keep, importance)
    after = measure(smaller, anatomy_of(smaller.network), batches).nll
    print(
        f"parameters {size(model):,} -> {size(smaller):,}; nats a token of the calibration "
        f"{importance.nll:.4f} -> {after:.4f}, before any training"
    )
    notes = {
        "pruned_from": str(options.checkpoint),
        "keep": keep,
        "rank_by": options.rank_by,
        "layers_by": options.layers_by,
        "rows": sum(len(tokens) for tokens, _ in batches),
        "nll_before": importance.nll,
        "nll_after": after,
    }
    write(smaller.cpu(), tokenizer, options, notes)
    print(options.output)


def calibration(
    options: argparse.Namespace, model: AutoregressiveModel, tokenizer: Tokenizer | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the calibration, and which tokens are no padding."""
    from datamodules.order import permutation

    path = options.calibration or options.checkpoint.parent.parent / "config.yaml"
    if options.calibration is None and (options.checkpoint.is_dir() or not path.is_file()):
        raise InputError(
            "--calibration: expected a configuration or texts, as there is none of a run beside "
            f"{options.checkpoint}; found none."
        )
    data: dict[str, Any] = read_data("--calibration", path, model, tokenizer).parts[0]
    count = len(data["tokens"])
    order = permutation(count, options.seed, 0)[: options.samples]
    for rows in torch.split(order, options.batch_size):
        tokens, lengths = data["tokens"][rows].long(), data["lengths"][rows]
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        yield tokens.to(options.device), real.to(options.device)


def scores(
    options: argparse.Namespace,
    model: AutoregressiveModel,
    anatomy: Anatomy,
    batches: list[tuple[Tensor, Tensor]],
) -> Importance:
    """What is asked for by ``--rank-by`` and ``--layers-by``."""
    found = measure(model, anatomy, track(batches, "calibration", transient=True))
    if options.layers_by == "loss":
        found = found.by_layers(loss_without_layers(model, anatomy, batches))
    if options.rank_by == "random":
        found = shuffled(found, options.seed)
    if options.layers_by == "every":
        found = found.by_layers(every(anatomy.sizes.layers, dict(options.keep).get("layers", 1)))
    return found


def _kept(keep: list[tuple[str, int]], anatomy: Anatomy) -> dict[str, int]:
    named = [name for name, _ in keep]
    if twice := [name for name in named if named.count(name) > 1]:
        raise InputError(f"--keep: {twice[0]} is given twice.")
    try:
        anatomy.after(dict(keep))
    except InputError as error:
        raise InputError(f"--{error}") from None
    return dict(keep)


def _check_folder(output: Path, source: Path) -> None:
    if output.suffix and not output.is_dir():
        raise InputError(
            f"--output {output}: expected a name that ends in .safetensors, or a folder."
        )
    if output.is_file():
        raise InputError(f"--output {output}: expected a folder, found a file.")
    if output.resolve() == source.resolve():
        raise InputError(f"--output {output}: expected another folder than what it is made of.")
    check_place(output)


def size(model: nn.Module) -> int:
    """Parameters, those that are tied once."""
    return sum(each.numel() for each in model.parameters())


def write(
    model: AutoregressiveModel,
    tokenizer: Tokenizer | None,
    options: argparse.Namespace,
    notes: dict[str, Any],
) -> None:
    """The smaller model, what it was made of, and for transformers its tokenizer's files."""
    if options.output.suffix == ".safetensors":
        if options.checkpoint.is_file():
            notes |= {"sha256": sha256_of(options.checkpoint)}
        written: nn.Module = AutoregressiveGenerator(model)
        if tokenizer is not None and tokenizer.size == model.vocabulary:
            written = TextGenerator(AutoregressiveGenerator(model), tokenizer.portable())
        save_model(written, options.output, notes)
        return
    with atomic_folder(options.output, "config.json") as folder:
        export_language_model(model, folder)
        write_json(folder / RECORD, notes)
        if options.checkpoint.is_dir():
            for path in sorted(options.checkpoint.iterdir()):
                if path.is_file() and path.name.startswith(WORDS_OF):
                    shutil.copyfile(path, folder / path.name)
