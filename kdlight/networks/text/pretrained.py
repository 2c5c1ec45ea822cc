"""Causal language models of ``transformers``: teachers, and students of any of its kinds."""

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlight.core.spec import Recorded
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.storage.pretrained import one_sentence, refuse_endless, whole

CAUSAL = "a causal language model of transformers"


class CausalLM(Recorded, nn.Module):
    """A model of ``transformers`` as a network of tokens; its weights are in whoever holds it.

    Args:
        config: Its configuration as transformers writes it (``config.json``).
        vocabulary: Tokens V; logits beyond them, which fill a matrix up to a round width, are cut
            before any softmax.
        rank: Rank of LoRA adapters on all linear layers, which alone are trained (peft); 0 for
            none.
        alpha: Scale of the adapters' product times their rank.
        dtype: Of the weights.

    Raises:
        InputError: transformers knows no such model, or ``vocabulary`` does not fit it.
    """

    def __init__(
        self,
        config: dict[str, Any],
        vocabulary: int,
        rank: int = 0,
        alpha: int = 16,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModelForCausalLM

        known = dict(config)
        kind = known.pop("model_type", None)
        refuse_endless(config, "config")
        with one_sentence("config", "settings of a causal model"):
            settings = AutoConfig.for_model(kind, **known)
            model = AutoModelForCausalLM.from_config(settings, dtype=getattr(torch, dtype))
        width = settings.vocab_size
        if not 0 < vocabulary <= width:
            raise InputError(
                f"vocabulary: expected at most the model's {width} tokens, found {vocabulary}."
            )
        self.vocabulary = vocabulary
        self.rank = rank
        self.model = _adapted(model, rank, alpha) if rank else model

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of tokens (B, T); the t-th sees t + 1 tokens."""
        logits: Tensor = self.model(input_ids=tokens.long(), use_cache=False).logits
        return logits[..., : self.vocabulary]

    def memory(self) -> Any:
        """What it remembers before it has read anything: transformers' cache."""
        from transformers import DynamicCache

        return DynamicCache()

    def read_on(self, tokens: Tensor, places: Tensor, sees: Tensor, memory: Any) -> Tensor:
        """Logits (1, n, V) of the tokens that follow each of ``tokens`` (1, n).

        Args:
            tokens: They are added to the memory.
            places: Where they stand in the sequence, (n,) int64.
            sees: Which of all tokens, those in the memory first, each of them sees, (n, N) bool.
            memory: Of :meth:`memory`.
        """
        # A row that is no tree needs no mask, without which attention is faster.
        every = torch.ones_like(sees).tril(sees.shape[1] - tokens.shape[1])
        logits: Tensor = self.model(
            input_ids=tokens.long(),
            attention_mask=None if torch.equal(sees, every) else sees[None, None],
            position_ids=places[None],
            past_key_values=memory,
            use_cache=True,
        ).logits
        return logits[..., : self.vocabulary]

    @staticmethod
    def keep(memory: Any, places: Tensor) -> None:
        """Forget all tokens read but those at ``places`` (n,)."""
        for layer in memory.layers:
            layer.keys = layer.keys.index_select(2, places)
            layer.values = layer.values.index_select(2, places)

    def whole(self) -> nn.Module:
        """The model of transformers, adapters merged into a copy of it."""
        if not self.rank:
            return self.model
        merged: nn.Module = copy.deepcopy(self.model).merge_and_unload()  # type: ignore[operator]
        return merged


def _adapted(model: nn.Module, rank: int, alpha: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted: nn.Module = get_peft_model(model, settings)
    return adapted


def causal_lm(
    path: str,
    length: int,
    vocabulary: int | None = None,
    beginning: int | None = None,
    rank: int = 0,
    alpha: int = 16,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> AutoregressiveModel:
    """A causal model out of a folder of ``transformers``, or by its name on the hub.

    No code of the folder is run. Attention to padding needs no mask: rows are filled up behind.

    Args:
        path: Folder, or name on the hub.
        length: Tokens of a row, as it samples.
        vocabulary: Tokens V; None for as many as the model has. Models of one family may have
            unlike widths for one tokenizer: give both the tokenizer's size.
        beginning: Token that stands before every row; None for the model's own first token, or the
            one that ends a text where it has none. Data need not begin with it.
        rank: Rank of LoRA adapters, 0 to train all weights.
        alpha: Scale of the adapters.
        dtype: Of the weights.

    Raises:
        InputError: There is no such model with all its weights, or a number does not fit it.
    """
    from transformers import AutoModelForCausalLM

    names = [Path(path) / name for name in ("adapter_config.json", "config.json")]
    if names[0].is_file() and not names[1].is_file():
        raise InputError(
            f"{path}: expected a whole model, found adapters alone; merge them into their model "
            "first (merge_and_unload of peft, or kdlight export of a run)."
        )
    loaded = whole(AutoModelForCausalLM, path, CAUSAL, dtype=getattr(torch, dtype))
    config = loaded.config
    if beginning is None:
        ids = (config.bos_token_id, config.eos_token_id)
        beginning = next((each for each in ids if isinstance(each, int)), None)
    size = config.vocab_size
    if beginning is None or not 0 <= beginning < size:
        raise InputError(
            f"beginning: expected a token of {path}, 0 to {size - 1}, found {beginning}."
        )
    settings = {key: value for key, value in config.to_dict().items() if value is not None}
    network = CausalLM(settings, vocabulary or size, rank, alpha, dtype)
    inner = network.model.get_base_model() if rank else network.model  # type: ignore[operator]
    # Under adapters the same matrices have longer names.
    named = {name.replace(".base_layer", ""): each for name, each in inner.state_dict().items()}
    with torch.no_grad():
        for name, value in loaded.state_dict().items():
            named[name].copy_(value)
    return AutoregressiveModel(network, vocabulary or size, length, beginning)
