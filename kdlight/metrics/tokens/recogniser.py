"""A recogniser that is trained on codes alone: which words does a level of a codec still hold?

An embedding of the codes, a convolution that halves the frame rate, bidirectional LSTMs and CTC
over letters (Graves et al., 2006): the usual probe of discrete tokens, small enough for a CPU. What
it needs is data. On minutes of speech it gets few words right whatever the codes, and letters are
the figure to compare; words become one with hours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.errors import InputError
from kdlight.metrics.speech.packages import require
from kdlight.metrics.speech.words import normalise

LETTERS = " abcdefghijklmnopqrstuvwxyz0123456789"
"""What it writes; class 0 is CTC's blank, class i + 1 the i-th of these."""


class CodedSpeech(NamedTuple):
    """An utterance for the recogniser.

    Attributes:
        codes: Of one level, (F,) int64.
        text: What is said.
    """

    codes: Tensor
    text: str


class RecognitionErrors(NamedTuple):
    """Errors over all utterances together.

    Attributes:
        cer: Letters that are wrong, missing or too many, over the letters of the truth.
        wer: The same of words.
        words: Words of the truth.
    """

    cer: float
    wer: float
    words: int


class TokenRecogniser(nn.Module):
    """Letters from the codes of one level.

    Args:
        codebook_size: Codes of the level.
        dim: Channels of the embedding, and of an LSTM in each direction.
        layers: Number of LSTMs.
        dropout: Share of the channels that is dropped between them, in training.
    """

    def __init__(
        self, codebook_size: int, dim: int = 128, layers: int = 2, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook_size, dim)
        self.halving = nn.Conv1d(dim, dim, 5, stride=2, padding=2)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(dim, dim, layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.letters = nn.Linear(2 * dim, len(LETTERS) + 1)

    def forward(self, codes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of letters.

        Args:
            codes: Of the utterances, (F,) int64 each.

        Returns:
            (B, ceil(max F / 2), letters + 1), and how many of these steps each utterance has, (B,).
        """
        lengths = torch.tensor([-(-len(one) // 2) for one in codes])
        embedded = [self.dropout(self.embedding(one)) for one in codes]
        hidden = F.gelu(self.halving(pad_sequence(embedded, batch_first=True).transpose(1, 2)))
        packed = pack_padded_sequence(
            self.dropout(hidden.transpose(1, 2)), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.letters(self.dropout(states)).log_softmax(dim=-1), lengths

    @torch.no_grad()
    def read(self, codes: Sequence[Tensor]) -> list[str]:
        """The likeliest letters of each utterance, greedily."""
        scores, lengths = self(codes)
        return [
            collapsed(one[:count].argmax(dim=-1))
            for one, count in zip(scores, lengths, strict=True)
        ]


def collapsed(path: Tensor) -> str:
    """The text of a path of CTC, (S,) int64: repetitions are one, blanks none."""
    classes = torch.unique_consecutive(path)
    return " ".join("".join(LETTERS[c - 1] for c in classes.tolist() if c > 0).split())


def spelled(text: str) -> Tensor:
    """Classes of the letters of a text as :func:`normalise` leaves it, (L,) int64."""
    return torch.tensor(
        [LETTERS.index(letter) + 1 for letter in normalise(text) if letter in LETTERS],
        dtype=torch.int64,
    )


def written(text: str) -> str:
    """A text as a recogniser without errors writes it."""
    return "".join(LETTERS[number - 1] for number in spelled(text).tolist())


def train_recogniser(
    speech: Sequence[CodedSpeech],
    codebook_size: int,
    iterations: int = 1000,
    batch_size: int = 8,
    lr: float = 3e-3,
    seed: int = 0,
) -> TokenRecogniser:
    """Train on utterances; the same utterances, in the same order, give the same recogniser.

    Args:
        speech: Codes with their text; what has no letter, or more than CTC can spell in its steps,
            is left out.
        codebook_size: Codes of the level.
        iterations: Batches.
        batch_size: Utterances of a batch.
        lr: Learning rate of AdamW at its highest, after a tenth of the batches; then it falls to 0
            as a cosine.
        seed: Seed of the weights, the order and the dropout.

    Returns:
        The recogniser, in evaluation mode.

    Raises:
        InputError: There is nothing to train on.
    """
    pairs = [(one.codes, spelled(one.text)) for one in speech]
    pairs = [(codes, text) for codes, text in pairs if 0 < 2 * len(text) <= len(codes)]
    if not pairs:
        raise InputError(
            "token recogniser: expected utterances with a transcript of at most half as many "
            f"letters as codes, found none in {len(speech)}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TokenRecogniser(codebook_size)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, lr, total_steps=iterations, pct_start=0.1
        )
        order: list[int] = []
        for _ in tqdm(
            range(iterations), "Training a recogniser", delay=2, leave=False, disable=None
        ):
            while len(order) < batch_size:
                order += torch.randperm(len(pairs)).tolist()
            batch = [pairs[index] for index in order[:batch_size]]
            order = order[batch_size:]
            scores, lengths = model([codes for codes, _ in batch])
            texts = torch.cat([text for _, text in batch])
            counts = torch.tensor([len(text) for _, text in batch])
            loss = F.ctc_loss(scores.transpose(0, 1), texts, lengths, counts, zero_infinity=True)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def recognition_errors(
    recogniser: TokenRecogniser, speech: Sequence[CodedSpeech]
) -> RecognitionErrors:
    """Errors of a recogniser on utterances that it has not seen.

    Raises:
        InputError: The package jiwer is missing, or no utterance has a word.
    """
    jiwer = require("jiwer", "jiwer", "token_wer")
    heard = [one for one in speech if len(spelled(one.text))]
    if not heard:
        raise InputError("token recogniser: expected utterances with transcripts, found none.")
    truths = [written(one.text) for one in heard]
    read = [text for one in heard for text in recogniser.read([one.codes])]
    return RecognitionErrors(
        cer=float(jiwer.cer(truths, read)),
        wer=float(jiwer.wer(truths, read)),
        words=sum(len(truth.split()) for truth in truths),
    )
