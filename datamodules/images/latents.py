"""Captioned pictures as latents and text embeddings, encoded once and kept beside the pictures."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.model_selection import train_test_split
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.images.base import ImageDataModule, Splits
from datamodules.images.framing import Framing
from datamodules.loader import Batch
from kdlight.core.noise import mix
from kdlight.diffusion.denoisers import Condition
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_path
from kdlight.storage.files import is_there
from kdlight.storage.pictures import find_pictures, open_declared, to_float
from kdlight.storage.text import text_beside
from kdlight.teachers.pipelines.autoencoder import DiffusersAutoencoder, latent_shape
from kdlight.teachers.pipelines.text import TextEncoder, dropped, embedded, of_one_length


class LatentSamples:
    """Latents with what is told of their captions, each caption embedded once.

    Args:
        latent: Latents, (N, C, H, W).
        told: What is told of the distinct captions, ``text`` (M, L, D) and so on.
        caption: Which of them belongs to a latent, (N,).
        null: What is told where there is no caption, ``text`` (L, D) and so on.
        dropout: Share of the samples that come without their caption.
        seed: Seed of which.
    """

    def __init__(
        self,
        latent: Tensor,
        told: Condition,
        caption: Tensor,
        null: Condition,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.latent, self.told, self.caption, self.null = latent, told, caption, null
        self.dropout, self.seed = dropout, seed

    def __len__(self) -> int:
        return len(self.latent)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        index, epoch = key
        told = {name: rows[self.caption[index]] for name, rows in self.told.items()}
        # A function of sample and epoch, so that neither workers nor a resumed run change it.
        if self.dropout and mix(self.seed, index, epoch, 7) < self.dropout * 2**63:
            told = dropped(told, self.null)
        return {"image": self.latent[index].float()} | {k: v.float() for k, v in told.items()}


class CaptionedLatentsDataModule(ImageDataModule):
    """Pictures with captions, ``name.jpg`` beside ``name.txt``, for latent text-to-image models.

    Batches are ``{"image": latents (B, C, H, W), "text": embeddings (B, L, D)}`` by the
    autoencoder and the text encoders of a pipeline, with ``text_mask`` (B, L) and ``pooled``
    (B, P) where its network is told them. They are computed once, before training
    starts, by the first process, and kept in ``cache``: 64 KB a picture of 512 pixels and 115 KB
    a distinct caption for Stable Diffusion, both as float16, and read into memory as a whole.
    That suits up to some ten thousand pictures.

    Args:
        data_dir: Folder of pictures and captions, searched with its sub-folders.
        path_or_id: Pipeline that encodes: the teacher's.
        size: Side of the pictures, pixels; the short side is resized to it, the centre cut out.
        heldout: Fraction of the pictures to hold out.
        cache: Folder of the encoded data; null for ``.latents`` in ``data_dir``.
        device: Where encoding runs.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.
        text_dropout: Share of the pictures that come without their caption, as a model learns
            that shall be guided.
        bit_depth: Bits that grey pictures of more than 8 bits use; null refuses them.
    """

    def __init__(
        self,
        data_dir: str,
        path_or_id: str,
        size: int = 512,
        heldout: float = 0.05,
        cache: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        batch_size: int = 16,
        steps_per_epoch: int = 500,
        seed: int = 0,
        bit_depth: int | None = None,
        text_dropout: float = 0.0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not 0 <= text_dropout < 1:
            raise InputError(
                f"text_dropout: expected a fraction from 0 to below 1, found {text_dropout}."
            )
        if not 0 < heldout < 1:
            raise InputError(f"heldout: expected a fraction between 0 and 1, found {heldout}.")
        self.data_dir = Path(data_dir)
        self.path_or_id = path_or_id
        self.text_dropout = text_dropout
        self.framing = Framing(size)
        self.size = size
        self.bit_depth = bit_depth
        self.heldout = heldout
        self.cache = self.data_dir / ".latents" if cache is None else Path(cache)
        self.device = device

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return latent_shape(self.path_or_id, self.size)

    @property
    def class_names(self) -> list[str]:
        return []

    def prepare_data(self) -> None:
        """Encode, in one process, while the others wait."""
        if not is_there(self._file):
            self._encode()

    def read(self) -> Splits:
        self.prepare_data()
        training, held = (torch.tensor(part) for part in self._parts)
        latent, caption = self._encoded["latent"], self._encoded["caption"]
        told = _named("told.", self._encoded)
        null = _named("null.", self._encoded)
        parts = [
            LatentSamples(latent[part], told, caption[part], null, dropout, self.seed)
            for part, dropout in ((training, self.text_dropout), (held, 0.0))
        ]
        return Splits(parts[0], parts[1], reference=parts[0])

    def one_pass(self, part: Literal["reference", "heldout"]) -> Iterator[Batch]:
        """The pictures of a part, as they are before encoding: what samples are compared with."""
        chosen = self._parts[0 if part == "reference" else 1]
        for start in range(0, len(chosen), self.batch_size):
            numbers = chosen[start : start + self.batch_size]
            pictures = [self._picture(self._pictures[number]) for number in numbers]
            yield {"image": torch.stack(pictures)}

    @cached_property
    def _parts(self) -> tuple[list[int], list[int]]:
        """Numbers of the training and of the held-out pictures, the same for every seed."""
        count = len(self._pictures)
        if count < 2:
            raise InputError(
                f"{self.data_dir}: expected at least 2 pictures, one of them to hold out, "
                f"found {count}."
            )
        try:
            training, held = train_test_split(range(count), test_size=self.heldout, random_state=0)
        except ValueError:
            raise InputError(f"heldout: {self.heldout} of {count} pictures leaves none.") from None
        return training, held

    @cached_property
    def _pictures(self) -> list[Path]:
        if not self.data_dir.is_dir():
            raise InputError(f"{self.data_dir}: no such folder.")
        return find_pictures(self.data_dir)

    def _picture(self, path: Path) -> Tensor:
        try:
            opened = open_declared(path, 3, self.bit_depth)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except Exception:  # a broken file can raise nearly anything in a decoder
            raise InputError(f"{path}: expected a picture, found a broken file.") from None
        return to_float(self.framing.cut(self.framing.scale(opened)))

    def _caption(self, path: Path) -> str:
        caption = text_beside(path)
        if caption is None:
            raise InputError(f"{path}: expected its caption in {path.stem}.txt beside it.")
        return caption

    @cached_property
    def _file(self) -> Path:
        """The cache of exactly these pictures, captions, size and pipeline."""
        known = hashlib.sha256(f"2\n{self.path_or_id}\n{self.size}\n".encode())
        if self.bit_depth is not None:
            known.update(f"{self.bit_depth}\n".encode())
        for path in self._pictures:
            state = path.stat()
            name = path.relative_to(self.data_dir)
            known.update(f"{name} {state.st_size} {state.st_mtime_ns} ".encode())
            known.update(f"{self._caption(path)}\n".encode())
        return self.cache / f"{known.hexdigest()[:16]}.safetensors"

    @cached_property
    def _encoded(self) -> dict[str, Tensor]:
        try:
            return load_file(self._file)
        except (SafetensorError, OSError):
            raise InputError(f"{self._file}: truncated; delete it to encode again.") from None

    def _encode(self) -> None:
        _ = self._parts  # complains about too few pictures
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = device if self.device == "auto" else self.device
        captions = [self._caption(path) for path in self._pictures]
        distinct = sorted(set(captions))
        bar: dict[str, Any] = {"delay": 2, "leave": False}
        encoder = TextEncoder(self.path_or_id).to(device)
        told = embedded(encoder, tqdm(distinct, "Embedding", **bar))
        autoencoder = DiffusersAutoencoder(self.path_or_id).to(device)
        latent = []
        with torch.no_grad():
            for path in tqdm(self._pictures, "Encoding", **bar):
                encoded = autoencoder.encode(self._picture(path)[None].to(device))
                latent.append(encoded.half().cpu())
        told, null = of_one_length(told, encoder.null())
        tensors = {
            "latent": torch.cat(latent),
            **{f"told.{name}": rows.half() for name, rows in told.items()},
            **{f"null.{name}": rows.half() for name, rows in null.items()},
            "caption": torch.tensor([distinct.index(caption) for caption in captions]),
        }
        with atomic_path(self._file) as temporary:
            save_file(tensors, temporary)


def _named(prefix: str, tensors: dict[str, Tensor]) -> Condition:
    """The tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
