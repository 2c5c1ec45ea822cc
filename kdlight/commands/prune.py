"""``prune``: a smaller transformer with the weights of the parts that do most."""

import argparse
import math
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
    inputs_of,
    positive,
    refuse_idle,
    seed,
    whole,
)
from kdlight.commands.shared.causal import read_causal
from kdlight.commands.shared.token_data import read_data
from kdlight.core.memory import rows_within
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.export.language_model import export_language_model
from kdlight.networks.text.experts import ExpertTransformer
from kdlight.networks.text.pretrained import CausalLM
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.files import read_json, save_model, sha256_of, write_json
from kdlight.storage.tokenizers import Tokenizer
from kdlight.surgery.anatomy import Anatomy
from kdlight.surgery.experts import activity, cut_experts, dense, masks_of
from kdlight.surgery.families import anatomy_of
from kdlight.surgery.importance import Importance, loss_without_layers, measure
from kdlight.surgery.pruning import every, prune, shuffled
from kdlight.surgery.vocabulary import (
    closed,
    cut_vocabulary,
    special_tokens,
    token_shares,
    write_tokenizer,
)

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
        default=[],
        metavar="PART=N",
        help="how many stay of layers, width (channels of a token), mlp (hidden units of every "
        "block) and heads (with the keys that they share); what is not named stays whole",
    )
    made.add_argument(
        "--experts",
        type=share,
        metavar="SHARE",
        help="instead, an expert for every domain of the data, with this share of the hidden units "
        "of every block, and a router to be trained (Read-ME); kdlight's own transformer alone",
    )
    made.add_argument(
        "--vocabulary-of",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="cut the tokens (with their rows of embedding and head) that none of these texts or "
        "configurations needs, one a language; of a folder its tokenizer too",
    )
    made.add_argument(
        "--least-share",
        type=fraction,
        default=0.0,
        metavar="S",
        help="a token stays if it is more than this share of one of them (default: 0, all that "
        "occur)",
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
    made.add_argument("--seed", type=seed, default=0, help="seed of rows and of random scores")
    made.add_argument("--batch-size", type=positive, default=32, help="rows at once, the most")
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


def share(text: str) -> float:
    """A share above 0 and of at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 1, found {text!r}")
    return value


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``prune``."""
    known = parser()
    options = known.parse_args(argv)
    _check_together(options, known.typed(argv))
    to_file = options.output.suffix == ".safetensors"
    if to_file:
        check_output(options.output, (".safetensors",), inputs_of(options), options.force)
    else:
        _check_folder(options.output, options.checkpoint)
    model, tokenizer = read_causal(options.checkpoint, options.length, options.model)
    if not to_file and not isinstance(model.network, CausalLM):
        raise InputError(
            f"--output {options.output}: expected a name that ends in .safetensors for a model "
            "that is none of transformers."
        )
    if options.experts is not None:
        cut(options, model, tokenizer)
        return
    anatomy = anatomy_of(model.network)
    keep = _kept(options.keep, anatomy)
    words = tokens_kept(options, model, tokenizer) if options.vocabulary_of else None
    model.to(options.device).eval()
    notes: dict[str, Any] = {"pruned_from": str(options.checkpoint), "keep": keep}
    smaller, before = model, size(model)
    if keep:
        batches = [(tokens, real) for tokens, real, _ in calibration(options, model, tokenizer)]
        importance = scores(options, model, anatomy, batches)
        smaller = prune(model, anatomy, keep, importance)
        after = measure(smaller, anatomy_of(smaller.network), batches).nll
        print(f"nats a token of the calibration {importance.nll:.4f} -> {after:.4f}, not trained")
        notes |= {"rank_by": options.rank_by, "layers_by": options.layers_by}
        notes |= {"rows": sum(len(tokens) for tokens, _ in batches)}
        notes |= {"nll_before": importance.nll, "nll_after": after}
    if words is not None:
        smaller = cut_vocabulary(smaller, words)
        notes |= {"kept_tokens": words, "least_share": options.least_share}
        print(f"tokens {model.vocabulary:,} -> {len(words):,}")
    print(f"parameters {before:,} -> {size(smaller):,}")
    write(smaller.cpu(), tokenizer, options, notes)
    print(options.output)


def _check_together(options: argparse.Namespace, typed: frozenset[str]) -> None:
    """Refuse options that exclude each other, and those that are of no use to what is asked for."""
    if options.experts is not None and (options.keep or options.vocabulary_of):
        raise InputError("--experts: expected neither --keep nor --vocabulary-of beside it.")
    if options.experts is None and not (options.keep or options.vocabulary_of):
        raise InputError("--keep: expected a part that is cut, or --vocabulary-of, found neither.")
    if not options.vocabulary_of:
        refuse_idle(typed, ("least_share",), "--vocabulary-of, whose tokens it counts")
    if not options.keep:
        refuse_idle(typed, ("rank_by", "layers_by"), "--keep, which parts to score")
    elif "layers" not in dict(options.keep):
        refuse_idle(typed, ("layers_by",), "--keep layers=N")
    if not (options.keep or options.experts):
        refuse_idle(typed, ("calibration", "samples"), "--keep or --experts, which parts to score")
    if not options.checkpoint.is_dir():
        refuse_idle(typed, ("length",), "a folder of transformers")


def fraction(text: str) -> float:
    """A share of at least 0 and less than 1."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:
        raise argparse.ArgumentTypeError(
            f"expected a share of at least 0 and below 1, found {text}"
        )
    return found


def tokens_kept(
    options: argparse.Namespace, model: AutoregressiveModel, tokenizer: Tokenizer | None
) -> list[int]:
    """Tokens that one of the texts needs, and those that the model or its tokenizer needs.

    Raises:
        InputError: The tokenizer cannot be cut.
    """
    definition = options.checkpoint / "tokenizer.json"
    if tokenizer is not None and not definition.is_file():
        raise InputError(
            "--vocabulary-of: expected a folder with a tokenizer.json, or a model whose tokens are "
            f"no text, found {options.checkpoint}."
        )
    shares = torch.zeros(model.vocabulary, dtype=torch.float64)
    for path in options.vocabulary_of:
        data = read_data("--vocabulary-of", path, model, tokenizer).parts[0]
        tokens = data["tokens"].long()
        real = torch.arange(tokens.shape[1]) < data["lengths"][:, None]
        shares = torch.maximum(shares, token_shares([(tokens, real)], model.vocabulary))
    found = set((shares > options.least_share).nonzero()[:, 0].tolist()) | special_tokens(model)
    if tokenizer is not None:
        found = closed(read_json(definition), found)
    return sorted(each for each in found if each < model.vocabulary)


def cut(
    options: argparse.Namespace, model: AutoregressiveModel, tokenizer: Tokenizer | None
) -> None:
    """An expert for every domain of the data, and a router that knows nothing yet."""
    dense(model)
    batches = list(calibration(options, model, tokenizer))
    found = [domain for _, _, domain in batches if domain is not None]
    if not found:
        raise InputError("--experts: expected data with domains (MixedDataModule), found others.")
    domains = int(torch.cat(found).max()) + 1
    model.to(options.device).eval()
    scores = activity(model, track(batches, "calibration", transient=True), domains)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        made = cut_experts(model, masks_of(scores, options.experts))
    assert isinstance(made.network, ExpertTransformer)
    shared = [len(each.up[0]) for each in made.network.perceptrons()]
    print(
        f"parameters {size(model):,} -> {size(made):,}; of {scores.shape[2]} units a block every "
        f"expert has {math.ceil(options.experts * scores.shape[2])}, all experts share {shared}"
    )
    notes = {"pruned_from": str(options.checkpoint), "experts": domains, "shared": shared}
    write(made.cpu(), tokenizer, options, notes | {"share": options.experts})
    print(options.output)


def calibration(
    options: argparse.Namespace, model: AutoregressiveModel, tokenizer: Tokenizer | None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Batches of the calibration, which tokens are no padding, and the domains if there are any."""
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
    at_once = rows_within(options.batch_size, data["tokens"].shape[1] * model.vocabulary)
    for rows in torch.split(order, at_once):
        tokens, lengths = data["tokens"][rows].long(), data["lengths"][rows]
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        domain = data["domain"][rows].to(options.device) if "domain" in data else None
        yield tokens.to(options.device), real.to(options.device), domain


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
        if not options.checkpoint.is_dir():
            return
        words: tuple[str, ...] = WORDS_OF
        if "kept_tokens" in notes and tokenizer is not None:
            write_tokenizer(options.checkpoint, folder, notes["kept_tokens"])
            words = ("special_tokens", "chat_template")
        for path in sorted(options.checkpoint.iterdir()):
            if path.is_file() and path.name.startswith(words):
                shutil.copyfile(path, folder / path.name)
