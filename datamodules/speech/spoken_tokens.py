"""Sentences as phones and a codec's codes: what Pheme's two models learn."""

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from datamodules.base import EndlessDataModule
from datamodules.loader import EvaluationLoader, StreamLoader
from datamodules.order import seeded
from datamodules.speech.base import SpeechDataModule, collate_padded
from datamodules.speech.utterances import Utterance
from kdlight.codec.codec import Codec
from kdlight.core.noise import mix
from kdlight.core.ranges import NonNegativeInt, PositiveInt
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.guidance.sources import source_of
from kdlight.networks.speech.phone_text import PHONES, read_phones
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.networks.speech.token_talker import digest_bytes
from kdlight.teachers.cache import FeatureCache
from kdlight.teachers.codec import load_codec
from kdlight.teachers.codes import CodesOf
from kdlight.teachers.talker import writer_of


class SpokenTokensDataModule(EndlessDataModule):
    """Whole sentences of any data of speech, their texts as phones, coded by a codec.

    Transcripts are rows of phones, or English as it is spelled
    (:func:`kdlight.networks.speech.phone_text.read_phones`); what has none is left out, with a
    warning.

    Training batches are ``text`` (B, L) int64 (a phone's number plus one, 0 is padding), ``codes``
    (B, n_q, F) int64, ``frames`` (B,) of each that count, and ``voice`` (B,), the number of the
    speaker among the training speakers, by name. All are padded to ``frames``.

    With ``recorded``, only so many sentences of a speaker have recordings. The others are texts:
    left out, or with a ``teacher`` spoken by it, whose codes the student learns as if they were
    recorded (sequence-level distillation, arXiv:1606.07947). A teacher writes the first level
    alone, so batches have one level then.

    Args:
        data: The speech.
        codec: A codec, as :func:`kdlight.teachers.codec.load_codec` takes it.
        frames: Frames of a training batch; sentences that are longer are left out of it.
        recorded: Sentences of each speaker that have recordings; null for all.
        teacher: Checkpoint of a T2S model that speaks the other texts.
        shuffled: The control: the teacher's speech of another text beside each text.
        cache: Folder that keeps the codes of recordings for other runs; null codes them anew.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order; the teacher's speech does not depend on it.

    Raises:
        InputError: There is a teacher but nothing left for it to say.
    """

    def __init__(
        self,
        data: SpeechDataModule,
        codec: str,
        frames: PositiveInt = 100,
        recorded: PositiveInt | None = None,
        teacher: str | None = None,
        shuffled: bool = False,
        cache: str | None = None,
        batch_size: PositiveInt = 16,
        steps_per_epoch: PositiveInt = 500,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if teacher is not None and recorded is None:
            raise InputError("recorded: expected a number beside a teacher, found null.")
        self.data, self.path = data, codec
        self.frames, self.recorded, self.teacher = frames, recorded, teacher
        self.shuffled, self.cache = shuffled, cache
        self.batch_size, self.steps_per_epoch, self.seed = batch_size, steps_per_epoch, seed

    @cached_property
    def codec(self) -> Codec:
        """The codec, found once.

        Raises:
            InputError: It is missing, or made for other audio than the data.
        """
        codec = load_codec(self.path)
        codec.require_whole("codec")
        made, given = codec.sample_rate, self.data.sample_rate
        if made != given:
            raise InputError(f"codec: expected one of {given} Hz as the data, found {made}.")
        return codec

    def setup(self, stage: str | None = None) -> None:
        """Code the sentences before training starts.

        Raises:
            InputError: The codec or the teacher does not fit, or no sentence is short enough.
        """
        _ = self._padded

    def digest(self) -> Tensor:
        """Of the codec, as its models keep it, (32,) uint8."""
        return digest_bytes(self.codec)

    def voices(self) -> Tensor:
        """Mean latents of each training speaker, by name, (voices, D)."""
        return torch.stack([self.describe(said) for said in self._training.values()])

    def describe(self, sentences: Sequence[dict[str, Any]]) -> Tensor:
        """A voice (D,): mean of the codec's latents over all frames of sentences."""
        latents = [self.codec.quantizer.decode(each["codes"][None])[0] for each in sentences]
        return torch.cat(latents, dim=1).mean(dim=1)

    def writer(self) -> SemanticWriter:
        """The teacher.

        Raises:
            InputError: There is none, its file is damaged, or it knows another codec's codes.
        """
        if self.teacher is None:
            raise InputError("teacher: expected a checkpoint, found null.")
        found = writer_of(self.teacher)
        if not torch.equal(found.codec, self.digest()):
            raise InputError(f"{self.teacher}: expected a model of the codes of {self.path}.")
        return found

    def training_recordings(self) -> dict[str, list[dict[str, Any]]]:
        """The training sentences that have recordings, of every speaker, by name."""
        return {name: said[: self.recorded] for name, said in self._training.items()}

    @cached_property
    def _training(self) -> dict[str, list[dict[str, Any]]]:
        return self._coded(self.data.training_utterances())

    @cached_property
    def heldout_rows(self) -> dict[str, list[dict[str, Any]]]:
        """The same of the speakers that training never hears."""
        return self._coded(self.data.heldout_utterances())

    @torch.no_grad()
    def _coded(self, utterances: Sequence[Utterance]) -> dict[str, list[dict[str, Any]]]:
        told = [each for each in utterances if each.transcript]
        if not told and utterances:
            raise InputError("data: expected transcripts, found recordings without.")
        untold = [each.name for each in utterances if not each.transcript]
        if untold:
            warnings.warn(
                f"{len(untold)} of {len(utterances)} recordings have no transcript and are left "
                f"out, such as {untold[0]}.",
                stacklevel=2,
            )
        store = None
        if self.cache is not None:
            store = FeatureCache(Path(self.cache), CodesOf(self.codec))
            rank, world_size = self.ranks
            store.fill([source_of(each) for each in told], rank, world_size)
        found: dict[str, list[dict[str, Any]]] = {}
        for each in told:
            if store is None:
                codes = self.codec.encode(each.read()[None])[0]
            else:
                codes = store.get(source_of(each))["codes"].T.contiguous()
            row = {
                "text": torch.tensor(_phones(each)),
                "codes": codes,
                "frames": torch.tensor(codes.shape[1]),
                "path": each.name,
                "speaker": each.speaker,
                "transcript": each.transcript,
            }
            if each.phones is not None:
                row["phones"] = each.phone_labels(self.codec.hop_length, 0, codes.shape[1])
            found.setdefault(each.speaker, []).append(row)
        return dict(sorted(found.items()))

    @cached_property
    def _padded(self) -> dict[str, Tensor]:
        rows = []
        for voice, said in enumerate(self._training.values()):
            for number, each in enumerate(said):
                recorded = self.recorded is None or number < self.recorded
                if recorded or self.teacher is not None:
                    rows.append(each | {"voice": torch.tensor(voice), "recorded": recorded})
        if self.teacher is not None:
            rows = self._taught(rows)
        kept = [row for row in rows if int(row["frames"]) <= self.frames]
        if not kept:
            shortest = min((int(row["frames"]) for row in rows), default=0)
            raise InputError(
                f"frames: expected at least {shortest} for the shortest sentence, "
                f"found {self.frames}."
            )
        for row in kept:
            row["codes"] = pad(row["codes"], (0, self.frames - row["codes"].shape[1]))
        names = ("text", "codes", "frames", "voice")
        return collate_padded([{name: row[name] for name in names} for row in kept])

    def _taught(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with their first level alone, those without a recording as the teacher says."""
        known = [row | {"codes": row["codes"][:1]} for row in rows if row["recorded"]]
        texts = [row for row in rows if not row["recorded"]]
        if not texts:
            raise InputError(
                f"recorded: expected fewer than a speaker's sentences beside a teacher, found "
                f"{self.recorded}."
            )
        padded = torch.nn.utils.rnn.pad_sequence([row["text"] for row in texts], batch_first=True)
        codes, frames = self.writer().write(padded, RowDraws(torch.arange(len(texts)), mix(1)))
        if self.shuffled:
            order = torch.randperm(len(texts), generator=seeded(1, 2))
            codes, frames = codes[order], frames[order]
        for row, code, count in zip(texts, codes, frames, strict=True):
            row |= {"codes": code[None, : int(count)], "frames": count}
        return known + texts

    def make_train_loader(self) -> StreamLoader:
        """A training loader that starts at the beginning."""
        return StreamLoader(
            self._padded, self.batch_size, self.steps_per_epoch, self.seed, *self.ranks
        )

    def heldout_dataloader(self) -> Iterable[dict[str, Any]]:
        """The held-out sentences in order, once; nothing if none is held out."""
        rows = [row for said in self.heldout_rows.values() for row in said]
        if not rows:
            return []
        return EvaluationLoader(Rows(rows), self.batch_size, *self.ranks, collate=collate_padded)


def _phones(utterance: Utterance) -> list[int]:
    """Phone numbers of all that is said, ends of sentences as pauses.

    Raises:
        InputError: The transcript is neither phones nor English.
    """
    try:
        (text,) = read_phones(re.sub(r"[.!?]+", ",", utterance.transcript), PHONES, longest=10**9)
    except InputError as error:
        raise InputError(f"{utterance.name}: {error}") from None
    return text


class Rows:
    """Samples that are there already."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.rows[key[0]]
