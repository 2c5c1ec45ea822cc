"""Text in the tokens of a student and in those of a teacher, and where the two meet."""

from collections.abc import Iterable, Sequence

import torch
from rich.progress import track

from datamodules.loader import Batch, EvaluationLoader
from datamodules.order import positive
from datamodules.text.base import TokenDataModule
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.storage.tokenizers import Tokenizer, until_end


class TwoTokenizersDataModule(TokenDataModule):
    """Batches of other data, with ``teacher_input`` (B, M) and ``meeting`` (B, L) int64.

    The text of a row, up to the token that ends it, is read by the teacher's tokenizer too.
    ``meeting`` is the place in the teacher's row behind the same text as the student's place, -1
    where there is none; the text before a place is what the tokens before it are decoded to, so
    that no tokenizer needs to know offsets.

    Args:
        data: Text in the student's tokens.
        teacher_tokenizer: The teacher's.
        teacher_length: Tokens of a teacher's row M; what is too much is cut.

    Raises:
        InputError: The data are no text, or ``teacher_length`` is below 1.
    """

    def __init__(
        self, data: TokenDataModule, teacher_tokenizer: Tokenizer, teacher_length: int
    ) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data.seed)
        if data.tokenizer is None:
            raise InputError(
                f"data: expected text, which two tokenizers can read, found {type(data).__name__}."
            )
        self.data, self.teacher_tokenizer = data, teacher_tokenizer
        self.teacher_length = positive("teacher_length", teacher_length)
        self.tokenizer = data.tokenizer
        self.vocabulary, self.length = data.vocabulary, data.length

    def read(self) -> tuple[Batch, Batch]:
        """Both parts of the data, the training part in the teacher's tokens too."""
        training, heldout = self.data.parts
        rows = track(training["tokens"].tolist(), "tokens of the teacher", transient=True)
        read = [self._row(row) for row in rows]
        taught, meeting = (torch.tensor(each) for each in zip(*read, strict=True))
        if not bool((meeting > 0).any()):  # before its first token every text is alike
            raise InputError(
                "teacher_tokenizer: expected texts that both tokenizers cut somewhere at the same "
                "place, found none."
            )
        return training | {"teacher_input": taught, "meeting": meeting}, heldout

    def _row(self, row: list[int]) -> tuple[list[int], list[int]]:
        assert self.tokenizer is not None
        own = until_end(row, self.tokenizer.end)
        behind = [] if self.teacher_tokenizer.end is None else [self.teacher_tokenizer.end]
        taught = [*self.teacher_tokenizer.encode(self.tokenizer.decode(own)), *behind]
        taught = taught[: self.teacher_length]
        # A place is behind the tokens before it; behind all of them stands the end, if one does.
        place = {text: at for at, text in enumerate(before(self.teacher_tokenizer, taught))}
        texts = before(self.tokenizer, row[: len(own) + 1])
        found = [place.get(text, -1) for text in texts]
        return (
            taught + [0] * (self.teacher_length - len(taught)),
            found + [-1] * (len(row) - len(found)),
        )

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out part of the data."""
        return EvaluationLoader(self.data.parts[1], self.batch_size, *self.ranks)

    def judges(self) -> list[SampleMetric]:
        """Those of the data."""
        return self.data.judges()

    def law(self) -> NextTokenModel | None:
        """That of the data."""
        return self.data.law()


def before(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """The text before each of the tokens."""
    return [tokenizer.decode(tokens[:at]) for at in range(len(tokens))]
