"""Samples of tokens for the report: pieces of text, and the call that revealed each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlight.discrete.samplers import TokenSample
from kdlight.report.token_samples import FILE
from kdlight.storage.files import write_json
from kdlight.storage.tokenizers import Tokenizer


def walk_of(
    row: dict[str, Any], sample: TokenSample, tokenizer: Tokenizer | None, count: int
) -> dict[str, Any]:
    """A few samples of one row of the table.

    Args:
        row: The row: model, steps, algorithm and nfe are kept.
        sample: What was drawn.
        tokenizer: What the tokens mean; None shows their numbers.
        count: How many samples.

    Returns:
        JSON-ready: for each sample its ``pieces``, a text a token, and ``revealed_at``.
    """
    kept = {name: row[name] for name in ("model", "steps", "algorithm", "nfe")}
    rows = [
        {"pieces": pieces(tokens, tokenizer), "revealed_at": order}
        for tokens, order in zip(
            sample.tokens[:count].tolist(), sample.revealed_at[:count].tolist(), strict=True
        )
    ]
    return {**kept, "rows": rows}


def pieces(tokens: Sequence[int], tokenizer: Tokenizer | None) -> list[str]:
    """What each token stands for; the one that ends a text as a sign."""
    if tokenizer is None:
        return [f"{token} " for token in tokens]
    known: dict[int, str] = {}
    if tokenizer.end is not None:
        known[tokenizer.end] = "∎"
    for token in tokens:
        known.setdefault(token, tokenizer.decode([token]))
    return [known[token] for token in tokens]


def write_walks(folder: Path, walks: Sequence[dict[str, Any]]) -> None:
    """Write the samples of a run."""
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, list(walks))
