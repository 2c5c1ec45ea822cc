"""Other models as judges of text: how likely is what a model wrote?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.codec.foreign.files import ENDINGS, is_repository
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.text_generator import TextGenerator, writes_tokens
from kdlight.errors import InputError
from kdlight.losses.next_tokens import next_token_nll
from kdlight.networks.text.pretrained import CAUSAL
from kdlight.storage.pretrained import one_sentence, whole
from kdlight.storage.tokenizers import FileTokenizer, Tokenizer
from kdlight.teachers.checkpoint import models_of


class LanguageJudge:
    """A model that reads from left to right, and its tokens.

    Args:
        path: A run's checkpoint or exported file of such a model of text, or a folder of
            transformers (or a name on its hub) with a causal language model.

    Raises:
        InputError: There is none.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self.device = torch.device("cpu")
        self.tokenizer: Tokenizer
        if Path(path).is_file():
            models = [model for _, model in models_of(Path(path))]
            found = next((each for each in models if isinstance(each, TextGenerator)), None)
            if found is None or not isinstance(found.denoiser, NextTokenModel):
                wordless = found is None and writes_tokens(models[0]) is not None
                raise InputError(
                    f"{path}: expected a model of text that reads from left to right, found "
                    f"{type(models[0] if found is None else found.denoiser).__name__}"
                    f"{' of tokens without text' if wordless else ''}."
                )
            self.tokenizer = found.tokenizer
            self.model: Any = found.denoiser
            self.length = found.denoiser.length
            self._logits: Callable[[Tensor], Tensor] = self.model
            return
        local = "/" in path or path.endswith(ENDINGS)
        if local and not Path(path).is_dir() and not is_repository(path):
            raise InputError(f"{path}: no such file or folder.")  # nothing to ask the hub for
        import transformers

        kind = transformers.AutoModelForCausalLM
        self.model = whole(kind, path, CAUSAL, dtype=torch.float32).eval()
        self.tokenizer = FileTokenizer(path)
        places = getattr(self.model.config, "max_position_embeddings", None) or 1024
        self.length = int(places) - 1
        config = self.model.config
        begins = (config.bos_token_id, config.eos_token_id, self.tokenizer.end, 0)
        self._begin = int(next(token for token in begins if isinstance(token, int)))
        self._logits = self._of_transformers
        with one_sentence(path, CAUSAL):  # some settings fail in use alone
            self.nll(["a"])

    def _of_transformers(self, tokens: Tensor) -> Tensor:
        begun = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=self._begin)
        return self.model(begun).logits  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> "LanguageJudge":
        """Itself, on another device."""
        self.model.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def nll(self, texts: Sequence[str]) -> tuple[float, int]:
        """Nats of the judge's own tokens of all texts, and how many they are.

        A text that is longer than the judge can read is read in pieces. Texts of equal length go
        through together, so none is padded.
        """
        total, count = 0.0, 0
        pieces = [
            tokens[at : at + self.length]
            for tokens in map(self.tokenizer.encode, texts)
            for at in range(0, len(tokens), self.length)
        ]
        for size in sorted({len(piece) for piece in pieces}):
            rows = torch.tensor(
                [piece for piece in pieces if len(piece) == size], device=self.device
            )
            for some in torch.split(rows, 64):
                total += float(next_token_nll(self._logits(some), some).double().sum())
            count += rows.numel()
        return total, count
