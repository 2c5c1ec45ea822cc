"""``pairs``: noise and what a model's ODE makes of it, to regress a student onto."""

from collections.abc import Sequence
from pathlib import Path

from kdlight.commands.parsing.arguments import (
    Parser,
    add_device,
    add_force,
    add_model,
    add_steps,
    check_output,
    inputs_of,
    picked,
    positive,
    seed,
)
from kdlight.teachers.pairs import make_pairs


def parser() -> Parser:
    """The options of ``pairs``."""
    made = Parser(
        "pairs",
        "Make pairs of noise and image with a teacher's deterministic sampler, for "
        "datamodules.images.pairs.PairsDataModule (init_args.file).",
        "pairs --checkpoint kdlight/assets/digits_teacher.safetensors --count 20000 --steps 18 "
        "--output data/pairs/digits.safetensors",
    )
    made.add_argument("--checkpoint", type=Path, required=True, help="checkpoint or .safetensors")
    made.add_argument("--output", type=Path, required=True, help="file of the pairs (.safetensors)")
    made.add_argument("--count", type=positive, default=10_000, help="how many")
    add_steps(made)
    add_model(made)
    made.add_argument("--seed", type=seed, default=0, help="seed of the noise")
    made.add_argument("--batch-size", type=positive, default=500, help="samples at once")
    add_device(made)
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``pairs``."""
    options = parser().parse_args(argv)
    check_output(options.output, (".safetensors",), inputs_of(options), options.force)
    teacher = picked(options.checkpoint, options.steps, options.model)
    make_pairs(
        teacher,
        options.count,
        options.output,
        options.steps,
        options.seed,
        options.batch_size,
        options.device,
    )
    print(options.output)
