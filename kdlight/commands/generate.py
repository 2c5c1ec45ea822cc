"""``generate``: text or tokens from a model that writes them, into a file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kdlight.commands.parsing.arguments import (
    Parser,
    add_force,
    check_output,
    device,
    inputs_of,
    positive,
    refuse_idle,
    seed,
    step_count,
)
from kdlight.commands.shared.causal import read_writer
from kdlight.commands.shared.drafting import (
    OF_DRAFTS,
    WITHOUT_MODEL,
    add_draft,
    drafted,
    keep_table,
)
from kdlight.commands.shared.filling import fill_files
from kdlight.commands.shared.processes import processes
from kdlight.commands.shared.writing import (
    STEPS,
    SUFFIXES,
    add_sampler,
    check_steps,
    guided,
    start_of,
    with_sampler,
    write_texts,
)
from kdlight.errors import InputError
from kdlight.speculative.writing import DraftedGenerator
from kdlight.storage.documents import read_documents


def parser() -> Parser:
    """The options of ``generate``."""
    made = Parser(
        "generate",
        "Write text, or tokens of a model without text. Sample i is a function of the seed and i "
        "alone: batch size, number of samples and processes (torchrun) change nothing.",
        "generate --checkpoint runs/characters_masked_diffusion/version_0/checkpoints/last.ckpt "
        '--prompt "The for statement" --num-samples 4 --output texts.txt',
    )
    made.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="checkpoint, .safetensors model, or folder of transformers",
    )
    made.add_argument("--model", default=None, help="which model of the checkpoint")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--prompt", default=None, metavar="TEXT", help="how every sample begins")
    what.add_argument(
        "--infill",
        default=None,
        metavar="TEXT",
        help="a text with gaps: [MASK] is one token, [MASK:7] seven",
    )
    what.add_argument(
        "--prompts",
        type=Path,
        default=None,
        metavar="FILE",
        help=".txt with a prompt a line, or .jsonl with a `prompt` in each",
    )
    made.add_argument(
        "--codes",
        type=Path,
        nargs="+",
        default=None,
        metavar="PATH",
        help="token files of a codec, or folders of them: fill the levels above --given and write "
        "token files into the folder --output, for `decode`",
    )
    made.add_argument("--given", type=positive, default=1, help="levels of --codes that are kept")
    made.add_argument("--num-samples", type=positive, default=4, help="how many, of each prompt")
    many = made.add_mutually_exclusive_group()
    many.add_argument("--steps", type=step_count, default=None, help=STEPS)
    many.add_argument(
        "--tokens-per-call",
        type=positive,
        default=None,
        metavar="K",
        help="as many steps as reveal K tokens each of a whole sequence",
    )
    add_sampler(made)
    add_draft(made)
    made.add_argument(
        "--length",
        type=positive,
        default=512,
        help="tokens of a sample, for a folder of transformers",
    )
    made.add_argument(
        "--guidance-scale",
        type=float,
        default=0.0,
        metavar="W",
        help="pull a masked model towards what is given: (1 + W) with it - W without it",
    )
    made.add_argument("--seed", type=seed, default=0, help="seed of the set")
    made.add_argument("--batch-size", type=positive, default=100, help="samples at once")
    made.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    made.add_argument(
        "--output",
        type=Path,
        default=Path("samples.txt"),
        help=".txt, .jsonl (text, tokens, calls), or .npz (tokens, calls, revealed_at)",
    )
    add_force(made)
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``generate``."""
    known = parser()
    options = known.parse_args(argv)
    _check_together(options, known.typed(argv))
    if options.codes is not None:
        _check_alone(options)
    else:
        check_output(options.output, SUFFIXES, inputs_of(options), options.force)
    writer = read_writer(options.checkpoint, options.length, options.model)
    writer.generator = with_sampler(writer.generator, options.sampler)
    length = writer.generator.length
    steps = options.steps
    check_steps(writer.generator, "--steps", steps is not None)
    check_steps(writer.generator, "--tokens-per-call", options.tokens_per_call is not None)
    if options.tokens_per_call is not None:
        steps = -(-length // options.tokens_per_call)
    if options.codes is not None:
        generator = writer.generator.to(options.device)
        where = (options.given, steps, options.seed, options.device)
        fill_files(generator, options.codes, options.output, *where)
        return
    prompts: list[str | None] = [options.prompt]
    if options.prompts is not None:
        prompts = [each.text for each in read_documents(options.prompts, "prompt", lines=True)]
    try:
        starts = [start_of(writer, prompt, options.infill) for prompt in prompts]
    except InputError as error:
        reason = str(error).removeprefix("prompt: ").removeprefix("infill: ")
        raise InputError(f"--{_source(options.prompt, options.infill)}: {reason}") from None
    if options.guidance_scale:
        for start, _ in starts:
            guided(writer.generator, start, options.guidance_scale)  # refused before the work
    if options.draft is not None:
        if options.infill is not None:
            raise InputError("--draft: expected a model that continues, found --infill beside it.")
        writer.generator = drafted(writer, options)
    with processes(options.device) as process:
        writer = writer.to(process.device)
        texts = write_texts(
            writer,
            starts,
            options.num_samples,
            steps,
            options.seed,
            options.batch_size,
            process,
            options.guidance_scale,
        )
    if texts is not None:
        if isinstance(writer.generator, DraftedGenerator):
            print(writer.generator.account.sentence())
            if options.draft_table is not None:
                keep_table(options.draft_table, writer.generator)
        print(texts.save(options.output))


def _check_together(options: argparse.Namespace, typed: frozenset[str]) -> None:
    """Refuse options that are of no use to what is asked for."""
    if options.codes is None:
        refuse_idle(typed, ("given",), "--codes to fill")
    else:
        refuse_idle(typed, ("num_samples",), "texts to write", "--codes")
    if not options.checkpoint.is_dir():
        refuse_idle(typed, ("length",), "a folder of transformers")
    if options.draft is None:
        refuse_idle(
            typed, ("temperature", *OF_DRAFTS), "--draft beside it (none for no draft)", "nothing"
        )
    elif options.draft in WITHOUT_MODEL:
        refuse_idle(typed, ("draft_block",), "a model as --draft", options.draft)


def _check_alone(options: argparse.Namespace) -> None:
    beside = ("prompt", "infill", "prompts", "guidance_scale", "draft")
    found = [f"--{name.replace('_', '-')}" for name in beside if getattr(options, name)]
    if found:
        raise InputError(f"--codes: expected no {' and no '.join(found)} beside it.")


def _source(prompt: str | None, infill: str | None) -> str:
    return "prompt" if prompt is not None else "infill" if infill is not None else "prompts"
