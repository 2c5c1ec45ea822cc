"""Text to numbers and back: bytes, characters, or what a tokenizer's file says.

A tokenizer is named in the settings like any part. A model that writes text carries its own, as
:meth:`Tokenizer.portable` gives it, so that an exported file needs no other beside it.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from kdlight.core.spec import Recorded, spec_of
from kdlight.errors import InputError
from kdlight.storage.files import require_file
from kdlight.storage.pretrained import one_sentence, pretrained
from kdlight.storage.text import read_text

UNKNOWN = "\ufffd"
"""What stands for a character that a vocabulary lacks (Unicode's replacement character)."""
PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))
"""Line feed and the 95 printable characters of ASCII."""


class Tokenizer(Recorded):
    """Base of what turns text into tokens 0 to ``size - 1`` and back.

    Attributes:
        size: Tokens V, the one that ends a text included; a mask is not among them.
        end: The token that ends a text; None if there is none.
        unknown: The token that stands for all that the vocabulary lacks; None if it lacks nothing.
    """

    size: int
    end: int | None
    unknown: int | None = None

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without anything before or behind it."""
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, up to the first that ends it."""
        raise NotImplementedError

    def lacks(self, text: str) -> list[str]:
        """Parts of a text that become a token that stands for anything unknown."""
        return []

    def portable(self) -> "Tokenizer":
        """The same tokenizer, which needs no file."""
        return self


class Reading:
    """Encodes texts, and counts what of them the tokenizer does not know.

    Args:
        tokenizer: Whose tokens they become.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.tokens = self.lost = 0
        self._parts: dict[str, None] = {}

    def encode(self, text: str) -> list[int]:
        """As the tokenizer's own."""
        found = self.tokenizer.encode(text)
        self.tokens += len(found)
        unknown = self.tokenizer.unknown
        if unknown is not None and unknown in found and (parts := self.tokenizer.lacks(text)):
            self.lost += found.count(unknown)
            self._parts |= dict.fromkeys(parts)
        return found

    def lacking(self) -> str | None:
        """A sentence on what stood for nothing, with the first five of it; None if all is known."""
        if not self.lost:
            return None
        named = ", ".join(map(repr, list(self._parts)[:5])) + ", ..." * (len(self._parts) > 5)
        return (
            f"{self.lost} of {self.tokens} tokens stand for {len(self._parts)} that the tokenizer "
            f"does not know: {named}"
        )


def identity_of(tokenizer: Tokenizer) -> str:
    """Hash of all that says what a token means, in hexadecimal."""
    text = json.dumps(spec_of(tokenizer.portable()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def until_end(tokens: Sequence[int], end: int | None) -> list[int]:
    """``tokens`` before the first that ends a text."""
    found = [int(token) for token in tokens]
    return found[: found.index(end)] if end is not None and end in found else found


class ByteTokenizer(Tokenizer):
    """UTF-8, a byte a token, and token 256 behind a text.

    What is no UTF-8 in sampled bytes is decoded as U+FFFD.
    """

    def __init__(self) -> None:
        self.size = 257
        self.end = 256

    def encode(self, text: str) -> list[int]:
        """Bytes of a text."""
        return list(text.encode("utf-8", "surrogatepass"))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of bytes, up to the first end."""
        return bytes(until_end(tokens, self.end)).decode("utf-8", "replace")


class CharacterTokenizer(Tokenizer):
    """A character a token, in the order of ``alphabet``; then one for all others, then the end.

    Args:
        alphabet: The characters, each once.

    Raises:
        InputError: It is empty, or holds a character twice.
    """

    def __init__(self, alphabet: str = PRINTABLE) -> None:
        twice = [character for character in set(alphabet) if alphabet.count(character) > 1]
        if not alphabet or twice:
            found = f"{min(twice)!r} twice" if twice else "none"
            raise InputError(f"alphabet: expected characters, each once, found {found}.")
        self._characters = [*alphabet, UNKNOWN]
        self._numbers = {character: number for number, character in enumerate(alphabet)}
        self.size = len(alphabet) + 2
        self.unknown = len(alphabet)
        self.end = len(alphabet) + 1

    def encode(self, text: str) -> list[int]:
        """Numbers of the characters; of one that is not in the alphabet, ``unknown``."""
        return [self._numbers.get(character, len(self._numbers)) for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """The characters, up to the first end."""
        return "".join(self._characters[token] for token in until_end(tokens, self.end))

    def lacks(self, text: str) -> list[str]:
        """The characters that are not in the alphabet, each once; U+FFFD stands for them."""
        return [each for each in dict.fromkeys(text) if each not in {*self._numbers, UNKNOWN}]


class HashedWordsTokenizer(Tokenizer):
    """Words in lower case, each the number that its hash falls on: no vocabulary to learn or keep.

    For models that read and never write: a token does not say which of its words it was.

    Args:
        size: Tokens V; words that share one are not told apart.

    Raises:
        InputError: ``size`` is below 1.
    """

    def __init__(self, size: int = 8192) -> None:
        if size < 1:
            raise InputError(f"size: expected at least 1, found {size}.")
        self.size = size
        self.end = None

    def encode(self, text: str) -> list[int]:
        """Numbers of the words of a text; what is between words does not count."""
        words = re.findall(r"\w+", text.lower())
        return [zlib.crc32(word.encode("utf-8", "surrogatepass")) % self.size for word in words]

    def decode(self, tokens: Sequence[int]) -> str:
        """The numbers, a space between two."""
        return " ".join(str(int(token)) for token in tokens)


class SubwordTokenizer(Tokenizer):
    """What the ``tokenizers`` library wrote: any vocabulary of words or their parts.

    Args:
        definition: Contents of a ``tokenizer.json``.
        end: The word that ends a text, such as ``"</s>"``; None for none.

    Raises:
        InputError: The library cannot read it, or it has no such word.
    """

    def __init__(self, definition: str, end: str | None = None) -> None:
        import tokenizers

        with one_sentence("tokenizer", "a definition of one"):
            self._tokenizer = tokenizers.Tokenizer.from_str(definition)
            # Only then it says that its word for unknown ones is in no vocabulary.
            self._tokenizer.encode("a \U0010ffff", add_special_tokens=False)
        # Its owner may have left it cutting or filling up, for batches of their own.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self.unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)
        self.end = None
        if end is not None:
            self.end = self._tokenizer.token_to_id(end)
            if self.end is None:
                raise InputError(f"end: expected a word of the vocabulary, found {end!r}.")

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without special ones around it."""
        # Half a surrogate pair, which JSON can hold, is no character: the library takes none.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, up to the first end; special ones among them are shown."""
        found: str = self._tokenizer.decode(until_end(tokens, self.end), skip_special_tokens=False)
        return found

    def lacks(self, text: str) -> list[str]:
        """The words or parts that became the token for unknown ones, each once."""
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        read = self._tokenizer.encode(text, add_special_tokens=False)
        parts = [
            text[slice(*place)]
            for token, place in zip(read.tokens, read.offsets, strict=True)
            if token == unknown
        ]
        return [part for part in dict.fromkeys(parts) if part != unknown]


class FileTokenizer(Tokenizer):
    """A ``tokenizer.json``, or a folder of transformers (or a name on its hub) with one.

    Of a folder the token that ends a text is the one transformers knows: ``eos_token``, else
    ``sep_token``.

    Args:
        path: The file, the folder or the name.
        end: The word that ends a text, where the folder does not say or says another.

    Raises:
        InputError: There is no such file, or no such tokenizer in it. Code in a folder is not run.
    """

    def __init__(self, path: str, end: str | None = None) -> None:
        self.path = path
        try:
            definition, known = _read(path)
            self._read = SubwordTokenizer(definition, end or known)
        except InputError as error:
            raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
        self.size = self._read.size
        self.end = self._read.end
        self.unknown = self._read.unknown

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without special ones around it."""
        return self._read.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, up to the first end."""
        return self._read.decode(tokens)

    def lacks(self, text: str) -> list[str]:
        """The words or parts that became the token for unknown ones, each once."""
        return self._read.lacks(text)

    def portable(self) -> SubwordTokenizer:
        """The tokenizer with all that its file says."""
        return self._read


def _read(path: str) -> tuple[str, str | None]:
    """The definition of a tokenizer, and the word that ends a text."""
    if path.endswith(".json"):
        require_file(Path(path))
        return read_text(Path(path)), None
    import transformers

    found = pretrained(transformers.AutoTokenizer, path, "a tokenizer of transformers")
    if not found.is_fast:
        raise InputError("expected a tokenizer with a tokenizer.json, found an older form.")
    return found.backend_tokenizer.to_str(), found.eos_token or found.sep_token


class NumberTokenizer(Tokenizer):
    """Tokens that mean nothing, written as their numbers with spaces between.

    Args:
        size: Tokens V.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.end = None

    def encode(self, text: str) -> list[int]:
        """The numbers of a text.

        Raises:
            InputError: A word is none, or out of range.
        """
        for word in text.split():
            if not (word.isascii() and word.isdigit() and int(word) < self.size):
                raise InputError(
                    f"expected numbers from 0 to {self.size - 1} of a model without text, found "
                    f"{word!r}."
                )
        return [int(word) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        """The numbers, a space between two."""
        return " ".join(str(int(token)) for token in tokens)
