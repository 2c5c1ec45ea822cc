"""A token generator that knows what its tokens mean."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.generator import TokenGenerator
from kdlight.errors import InputError
from kdlight.storage.tokenizers import FileTokenizer, Tokenizer


class TextGenerator(Recorded, nn.Module):
    """Writes text: what a run on text ends in, and what its exported file holds.

    Args:
        generator: Turns masks into tokens.
        tokenizer: Turns text into tokens and back; one that needs no file.

    Raises:
        InputError: The two have other vocabularies.
    """

    def __init__(self, generator: TokenGenerator, tokenizer: Tokenizer) -> None:
        super().__init__()
        if tokenizer.size != generator.vocabulary:
            raise InputError(
                f"tokenizer: expected the generator's {generator.vocabulary} tokens, "
                f"found {tokenizer.size}."
            )
        self.generator = generator
        self.tokenizer = tokenizer

    @property
    def denoiser(self) -> nn.Module:
        """The model whose weights a run keeps."""
        return self.generator.denoiser

    def start(self, parts: Sequence[str | int], length: int | None = None) -> Tensor:
        """A start that keeps texts and fills the masks between and behind them, (L,).

        Args:
            parts: Texts, and numbers of masks.
            length: Tokens L; the generator's by default.

        Raises:
            InputError: They are more than L tokens, or the tokenizer lacks a part of a text.
        """
        length = length or self.generator.length
        texts = [part for part in parts if isinstance(part, str)]
        if unknown := [each for text in texts for each in self.tokenizer.lacks(text)]:
            found_there = ", ".join(map(repr, unknown[:5])) + ", ..." * (len(unknown) > 5)
            raise InputError(f"prompt: expected what the tokenizer knows, found {found_there}.")
        masks = sum(part for part in parts if isinstance(part, int))
        if masks > length:  # before a list as long is made
            raise InputError(
                f"prompt: expected at most the {length} tokens of a sequence, found {masks} masks."
            )
        found: list[int] = []
        for part in parts:
            if isinstance(part, str):
                found += self.tokenizer.encode(part)
            else:
                found += [self.generator.vocabulary] * part
        if len(found) > length:
            raise InputError(
                f"prompt: expected at most the {length} tokens of a sequence, found {len(found)}."
            )
        rest = [self.generator.vocabulary] * (length - len(found))
        return torch.tensor(found + rest)

    def text(self, tokens: Tensor) -> str:
        """The text of a row of tokens (L,)."""
        return self.tokenizer.decode(tokens.tolist())


def with_text(generator: TokenGenerator, tokenizer: Path | None) -> TokenGenerator | TextGenerator:
    """A generator that writes text, if a ``tokenizer.json`` or a folder with one is named.

    Raises:
        InputError: There is no such tokenizer, or it has another vocabulary.
    """
    if tokenizer is None:
        return generator
    return TextGenerator(generator, FileTokenizer(str(tokenizer)).portable())


def writes_tokens(model: nn.Module) -> TokenGenerator | None:
    """The token generator that a model of a file is or holds; None if there is none."""
    if isinstance(model, TextGenerator):
        return model.generator
    return model if isinstance(model, TokenGenerator) else None
