"""What a pipeline's network is told of prompts: by the pipeline's own encoders."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from kdlight.diffusion.denoisers import Condition
from kdlight.diffusion.latent import PromptTable
from kdlight.errors import InputError
from kdlight.storage.files import read_json
from kdlight.storage.pretrained import one_sentence, pretrained, silent
from kdlight.teachers.pipelines.folder import (
    network_part,
    open_pipeline,
    parts_of,
)

CLIPS = (CLIPTextModel, CLIPTextModelWithProjection)

ENCODED = {
    "StableDiffusionPipeline": ("text", "null_text"),
    "LatentConsistencyModelPipeline": ("text", "null_text"),
    "StableDiffusionXLPipeline": ("text", "null_text", "pooled", "null_pooled"),
    "StableDiffusion3Pipeline": ("text", "null_text", "pooled", "null_pooled"),
    "PixArtAlphaPipeline": ("text", "text_mask", "null_text", "null_text_mask"),
    "PixArtSigmaPipeline": ("text", "text_mask", "null_text", "null_text_mask"),
    "SanaPipeline": ("text", "text_mask", "null_text", "null_text_mask"),
    "FluxPipeline": ("text", "pooled"),
    "QwenImagePipeline": ("text", "text_mask"),
}
"""What ``encode_prompt`` of each pipeline returns, in order; ``null_*`` is of no prompt."""


class TextEncoder:
    """A pipeline's tokenizers and text encoders, for as long as captions are embedded.

    Args:
        path_or_id: See :func:`~kdlight.teachers.pipelines.folder.open_pipeline`.

    Raises:
        InputError: The pipeline takes no text, or its encoders are missing or damaged.
    """

    def __init__(self, path_or_id: str) -> None:
        self.root = root = open_pipeline(path_or_id)
        parts = parts_of(root)
        kind = parts["pipeline"]
        if kind not in ENCODED:
            raise InputError(
                f"{root}: expected a pipeline that takes text ({', '.join(ENCODED)}), found {kind}."
            )
        self.names = ENCODED[kind]
        others = {network_part(root), "vae", "scheduler", "safety_checker", "feature_extractor"}
        index = read_json(root / "model_index.json")
        absent = {name for name, value in index.items() if value == [None, None]}
        omitted: dict[str, Any] = dict.fromkeys((others & set(parts)) | absent)
        encoders = [name for name in parts if name.startswith("text_encoder")]
        for name in encoders:
            if not list((root / name).glob("*.safetensors")):
                raise InputError(f"{root / name}: no safetensors weights; pickled are not read.")
        self.pipeline = pretrained(
            getattr(diffusers, kind),
            root,
            f"text encoders with tokenizers ({', '.join(encoders)})",
            use_safetensors=True,
            local_files_only=True,
            **omitted,
        )
        for name in encoders:
            self._check_limit(root, name)
        # Without its third encoder Stable Diffusion 3 asks the network how wide text is.
        config = read_json(root / network_part(root) / "config.json")
        told = SimpleNamespace(config=SimpleNamespace(**config))
        setattr(self.pipeline, network_part(root), told)

    def _check_limit(self, root: Path, encoder: str) -> None:
        """Texts are filled up to what the tokenizer says, which CLIP has no more places than."""
        tokenizer = encoder.replace("encoder", "tokenizer").removeprefix("text_")
        most = getattr(self.pipeline, encoder).config.to_dict().get("max_position_embeddings")
        found = getattr(self.pipeline, tokenizer).model_max_length
        if isinstance(getattr(self.pipeline, encoder), CLIPS) and found not in range(1, most + 1):
            raise InputError(
                f"{root / tokenizer}: model_max_length: expected a whole number from 1 to {most}, "
                f"as many tokens as the text encoder reads, found {found!r}."
            )

    def to(self, device: torch.device | str) -> "TextEncoder":
        """The same encoders, on a device."""
        self.pipeline.to(device)
        return self

    @torch.no_grad()
    def _encode(self, captions: list[str]) -> Condition:
        arguments: dict[str, Any] = {"device": self.pipeline.device, "num_images_per_prompt": 1}
        if self.names[-1].startswith("null_"):
            arguments["do_classifier_free_guidance"] = True
        if "StableDiffusion3" in type(self.pipeline).__name__:
            arguments |= {"prompt_2": None, "prompt_3": None}
        elif "Flux" in type(self.pipeline).__name__:
            arguments["prompt_2"] = None
        # What a call of the pipeline would say of its own accord, encode_prompt alone would not.
        called = inspect.signature(type(self.pipeline).__call__).parameters
        taken = inspect.signature(self.pipeline.encode_prompt).parameters
        usual = ("max_sequence_length", "clean_caption", "complex_human_instruction")
        arguments |= {n: called[n].default for n in usual if n in called and n in taken}
        with one_sentence(self.root, "text encoders with their tokenizers"), silent():
            found = self.pipeline.encode_prompt(prompt=captions, **arguments)
            # Flux adds numbers that are always the same.
            pairs = zip(self.names, found, strict=False)
            told = {name: value.float().cpu() for name, value in pairs if value is not None}
        if "text_mask" in self.names and "text_mask" not in told:
            told["text_mask"] = torch.ones(told["text"].shape[:2])  # Qwen-Image's way to say so
        return told

    def __call__(self, captions: Sequence[str]) -> Condition:
        """What is told of captions, ``text`` (N, L, D) and so on, float32, as the pipeline does."""
        found = self._encode(list(captions))
        return {name: rows for name, rows in found.items() if not name.startswith("null_")}

    def null(self) -> Condition:
        """What is told where there is no prompt, ``text`` (L, D) and so on."""
        # Qwen-Image is guided away from a space: nothing at all would be no token.
        found = self._encode([" " if "QwenImage" in type(self.pipeline).__name__ else ""])
        if not any(name.startswith("null_") for name in found):
            return {name: rows[0] for name, rows in found.items()}
        return {
            name.removeprefix("null_"): rows[0]
            for name, rows in found.items()
            if name.startswith("null_")
        }


class Prompts(PromptTable):
    """Prompts embedded by the text encoders of a pipeline.

    Args:
        path_or_id: See :func:`~kdlight.teachers.pipelines.folder.open_pipeline`.
        prompts: The prompts.

    Attributes:
        null: What is told where there is no prompt, each without the batch.
    """

    def __init__(self, path_or_id: str, prompts: list[str]) -> None:
        if not prompts:
            raise InputError("prompts: expected at least one, found none.")
        encode = TextEncoder(path_or_id)
        super().__init__(embedded(encode, prompts))
        self.null = encode.null()


def embedded(encode: TextEncoder, prompts: Sequence[str]) -> Condition:
    """What is told of prompts, each embedded by itself: its neighbours change nothing."""
    rows = [encode([prompt]) for prompt in prompts]
    length = max(row["text"].shape[1] for row in rows)
    rows = [padded(row, length) for row in rows]
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def padded(told: Condition, length: int) -> Condition:
    """Text (B, L, D) of a pipeline whose prompts differ in length, and its mask, made longer."""
    missing = length - told["text"].shape[1]
    if missing <= 0:
        return told
    text = torch.nn.functional.pad(told["text"], (0, 0, 0, missing))
    return {
        **told,
        "text": text,
        "text_mask": torch.nn.functional.pad(told["text_mask"], (0, missing)),
    }


def of_one_length(told: Condition, null: Condition) -> tuple[Condition, Condition]:
    """What is told of prompts and of no prompt, so that one can stand for the other."""
    one = {name: rows[None] for name, rows in null.items()}
    length = max(told["text"].shape[1], one["text"].shape[1])
    one = padded(one, length)
    return padded(told, length), {name: rows[0] for name, rows in one.items()}


def dropped(condition: dict[str, Tensor], null: Condition) -> dict[str, Tensor]:
    """A sample's condition with nothing said: what ``null`` has replaces what it has."""
    return {**condition, **{name: null[name] for name in condition if name in null}}
