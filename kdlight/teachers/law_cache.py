"""A teacher's laws of the next token on disk: its likeliest tokens and the mass of the rest."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from kdlight.core.frozen import digest
from kdlight.core.spec import Recorded, spec_of
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.errors import InputError
from kdlight.storage.files import is_there, read_json, write_json
from kdlight.storage.tokenizers import Tokenizer, identity_of

FORMAT = "kdlight-laws-1"
CALL_BYTES = 2**28
"""Of the logits of one call of the teacher in float32."""
CHECKED = 2**24
"""Numbers that are checked at once."""
MASS = 0.05
"""How far the logarithm of a law's sum may be from 0, in float16."""
Array = np.memmap[Any, np.dtype[Any]]
LOCATIONS = ("_name_or_path", "transformers_version")
"""Entries of a configuration that say where a model lies, not what it is."""


class KeptLaws(NamedTuple):
    """Laws of the next token, cut to their likeliest tokens.

    Attributes:
        log_probs: (..., K + 1), normalised; the last is all tokens that are not kept. (..., V)
            where all are kept.
        tokens: The kept ones, likeliest first, (..., K) int64.
    """

    log_probs: Tensor
    tokens: Tensor


def kept_laws(logits: Tensor, k: int, temperature: float = 1.0) -> KeptLaws:
    """The ``k`` likeliest tokens of softmax(logits / temperature).

    Args:
        logits: (..., V).
        k: At least 1; V or more keeps all.
        temperature: Above 0. The tail's mass at another one cannot be known afterwards.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    log_p = wide.log_softmax(dim=-1)
    kept = log_p.topk(min(k, log_p.shape[-1]), dim=-1)
    if k >= log_p.shape[-1]:
        return KeptLaws(kept.values, kept.indices)
    # Summed over the tail itself: one minus the kept mass has no digits where it is nearly 1.
    rest = log_p.scatter(-1, kept.indices, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return KeptLaws(torch.cat([kept.values, rest], dim=-1), kept.indices)


class LawCache:
    """What a teacher says of rows of tokens, written once, in a folder.

    ``tokens.npy`` (N, L, K) has 2 bytes a token (4 where V is above 65,536), ``log_probs.npy``
    (N, L, K + 1) 2 bytes in float16. Both are mapped into memory, so that training holds no more
    of them than it reads. ``laws.json`` says of what they were made, and of how many rows: an
    interrupted run goes on there.

    Args:
        folder: Where.
        tokens: The rows, (N, L) int.
        tokenizer: What gave them; None where they are no text.
        vocabulary: Tokens V.
        k: Tokens that are kept of each law.
        temperature: Of the teacher.
        dtype: Of the log-probabilities. ``float16`` rounds them to 11 bits.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        folder: Path,
        tokens: Tensor,
        tokenizer: Tokenizer | None,
        vocabulary: int,
        k: int = 50,
        temperature: float = 1.0,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        if k < 1 or not temperature > 0:
            raise InputError(
                f"k, temperature: expected at least 1 and above 0, found {k} and {temperature}."
            )
        self.folder, self.rows = folder, tokens
        self.k, self.temperature = min(k, vocabulary), temperature
        self.number = np.dtype(dtype)
        self.token = np.dtype(np.uint16 if vocabulary <= 2**16 else np.int32)
        width = self.k if k >= vocabulary else self.k + 1
        self.shapes = {
            "tokens": (*tokens.shape, self.k),
            "log_probs": (*tokens.shape, width),
        }
        content = hashlib.sha256(tokens.long().contiguous().numpy().data).hexdigest()
        self.facts: dict[str, Any] = {
            "format": FORMAT,
            "data": content,
            "tokenizer": "none" if tokenizer is None else identity_of(tokenizer),
            "vocabulary": vocabulary,
            "k": self.k,
            "temperature": temperature,
            "dtype": dtype,
        }

    @property
    def bytes_per_token(self) -> int:
        """Of both files together."""
        kept, width = self.shapes["tokens"][2], self.shapes["log_probs"][2]
        return int(kept * self.token.itemsize + width * self.number.itemsize)

    def make(self, teacher: nn.Module, device: torch.device | str = "cpu") -> None:
        """Ask the teacher about the rows that are missing.

        Raises:
            InputError: The folder holds laws of another teacher, tokenizer or data, the teacher
                has another vocabulary or says something that is not finite, or the disk is full.
        """
        if not isinstance(teacher, NextTokenModel):
            raise InputError(
                f"teacher: expected a model of next tokens, found {type(teacher).__name__}."
            )
        if teacher.vocabulary != self.facts["vocabulary"]:
            raise InputError(
                f"teacher: expected the data's vocabulary of {self.facts['vocabulary']} tokens, "
                f"found {teacher.vocabulary}."
            )
        facts = self.facts | {"teacher": identity(teacher)}
        done, count = self._done(facts), len(self.rows)
        if done == count:
            return
        arrays = self._opened("r+" if done else "w+")
        teacher.to(device).eval()
        row = 4 * self.rows.shape[1] * int(self.facts["vocabulary"])
        step = max(1, CALL_BYTES // row)
        shown = {"desc": "Asking the teacher", "delay": 2, "leave": False, "disable": None}
        with tqdm(total=count, initial=done, **shown) as bar:
            for start in range(done, count, step):
                rows = slice(start, start + step)
                self._ask(teacher, rows, arrays, device)
                # Only rows that are on disk are said to be there.
                for array in arrays.values():
                    array.flush()
                write_json(self.folder / "laws.json", facts | {"done": min(start + step, count)})
                bar.update(min(step, count - start))

    @torch.no_grad()
    def _ask(
        self,
        teacher: nn.Module,
        rows: slice,
        arrays: Mapping[str, Array],
        device: torch.device | str,
    ) -> None:
        logits = teacher(self.rows[rows].long().to(device))
        laws = kept_laws(logits, self.k, self.temperature)
        if bool(laws.log_probs.isnan().any()):
            raise InputError(
                f"teacher: expected finite logits, found others in rows {rows.start} to "
                f"{rows.start + len(logits) - 1}."
            )
        arrays["tokens"][rows] = laws.tokens.cpu().numpy().astype(self.token)
        arrays["log_probs"][rows] = laws.log_probs.cpu().numpy().astype(self.number)

    def read(self) -> dict[str, Tensor]:
        """``teacher_tokens`` (N, L, K) and ``teacher_log_probs`` (N, L, K + 1), mapped from disk.

        Raises:
            InputError: They are missing, damaged, or were not made of these data to the end.
        """
        done = self._done(self.facts)
        if done < len(self.rows):
            raise InputError(
                f"{self.folder}: expected a teacher's laws of {len(self.rows)} rows, found {done}; "
                "with a teacher the others are made."
            )
        arrays = self._opened("c")
        self._check_values(arrays)
        return {f"teacher_{name}": torch.from_numpy(array) for name, array in arrays.items()}

    def _check_values(self, arrays: Mapping[str, Array]) -> None:
        """Refuse tokens that there are not, and what is no law, a few rows at a time.

        Raises:
            InputError: A row is damaged.
        """
        step = max(1, CHECKED // max(1, int(np.prod(self.shapes["log_probs"][1:]))))
        for start in range(0, len(self.rows), step):
            rows = slice(start, start + step)
            tokens = torch.from_numpy(arrays["tokens"][rows]).long()
            mass = torch.from_numpy(arrays["log_probs"][rows]).float().logsumexp(dim=-1)
            inside = bool(((tokens >= 0) & (tokens < self.facts["vocabulary"])).all())
            if not inside or not bool((mass.abs() < MASS).all()):
                raise InputError(
                    f"{self.folder}: expected laws that sum to 1 over tokens below "
                    f"{self.facts['vocabulary']}, found others in rows {start} to "
                    f"{start + len(tokens) - 1}; remove the folder, and it is made again."
                )

    def _done(self, expected: Mapping[str, Any]) -> int:
        """Rows that are there.

        Raises:
            InputError: They were made of something else.
        """
        path = self.folder / "laws.json"
        if not is_there(path):
            return 0
        found = read_json(path)
        done = found.get("done") if isinstance(found, dict) else None
        if type(done) is not int or not 0 <= done <= len(self.rows):
            raise InputError(f"{path}: expected what a cache was made of; remove the folder.")
        for name, value in expected.items():
            if found.get(name) != value:
                raise InputError(
                    f"{self.folder}: the laws in it were made with another {name}: expected "
                    f"{str(value)[:12]}, found {str(found.get(name))[:12]}; remove the folder or "
                    "name another."
                )
        return done

    def _opened(self, mode: Literal["c", "r+", "w+"]) -> dict[str, Array]:
        """Both files, mapped into memory: to read, to write on, or new."""
        if mode == "w+":
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_room()
        kinds = {"tokens": self.token, "log_probs": self.number}
        arrays = {}
        for name, dtype in kinds.items():
            path, shape = self.folder / f"{name}.npy", self.shapes[name]
            if mode == "w+":
                arrays[name] = np.lib.format.open_memmap(path, mode, dtype, shape)
                continue
            try:
                found = np.load(path, mmap_mode="c")  # which a file that is too short fails
            except (OSError, ValueError, EOFError):
                found = None
            if found is None or found.shape != shape or found.dtype != dtype:
                raise InputError(
                    f"{path}: missing, truncated or damaged; remove the folder, and it is made "
                    "again."
                )
            arrays[name] = found if mode == "c" else np.load(path, mmap_mode=mode)
        return arrays

    def _check_room(self) -> None:
        needed = self.bytes_per_token * self.rows.numel()
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder}: expected {needed / 2**20:,.0f} MiB of free disk for "
                f"{self.bytes_per_token} bytes a token, found {free / 2**20:,.0f}."
            )


def identity(teacher: nn.Module) -> str:
    """Hash of a teacher's weights and of what it computes with them, in hexadecimal."""
    total = hashlib.sha256(digest(teacher).encode())
    if isinstance(teacher, Recorded):
        text = json.dumps(_without_locations(spec_of(teacher)), sort_keys=True)
        total.update(text.encode())
    return total.hexdigest()


def _without_locations(spec: Any) -> Any:
    if isinstance(spec, dict):
        return {key: _without_locations(item) for key, item in spec.items() if key not in LOCATIONS}
    return [_without_locations(item) for item in spec] if isinstance(spec, list) else spec
