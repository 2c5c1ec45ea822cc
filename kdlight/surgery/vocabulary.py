"""A model without the tokens that its texts do not need (BiStil, arXiv:2306.01709, section 3.1)."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.core.spec import rebuilt
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import read_json, write_json
from kdlight.surgery.families import anatomy_of

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
BYTE = 6
"""Characters of the name of a byte of its own, such as ``<0x0A>``."""


def token_shares(batches: Iterable[tuple[Tensor, Tensor]], vocabulary: int) -> Tensor:
    """How large a share of texts each token has, (V,) float64.

    Args:
        batches: Tokens (B, T), and which of them are no padding (B, T) bool.
        vocabulary: Tokens V.
    """
    counts = torch.zeros(vocabulary, dtype=torch.int64)
    for tokens, real in batches:
        counts += torch.bincount(tokens[real].cpu(), minlength=vocabulary)
    return counts.double() / counts.sum()


def special_tokens(model: AutoregressiveModel) -> set[int]:
    """The tokens that a model cannot do without: what begins and ends its texts."""
    found = {model.beginning}
    if isinstance(model.network, CausalLM):
        for name in SPECIAL:
            value = model.network._init_args["config"].get(name)
            found |= set(value if isinstance(value, list) else [value])
    return {each for each in found if isinstance(each, int) and 0 <= each < model.vocabulary}


@torch.no_grad()
def cut_vocabulary(model: AutoregressiveModel, kept: list[int]) -> AutoregressiveModel:
    """A smaller model whose token i is the model's token ``kept[i]``.

    Nothing is trained, and of texts of these tokens the logits of these tokens are the same to the
    bit; a softmax over fewer of them has another norm.

    Args:
        model: Stays as it is.
        kept: Tokens that stay, in order; :func:`special_tokens` among them.

    Raises:
        InputError: A token is not there, or one is missing that the model needs, or its anatomy is
            not known.
    """
    anatomy_of(model.network)
    missing = sorted(special_tokens(model) - set(kept))
    if not kept or kept != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= model.vocabulary:
        raise InputError(
            f"kept: expected tokens from 0 to {model.vocabulary - 1} in order, found {kept[:9]}."
        )
    if missing:
        raise InputError(f"kept: expected {missing} too, which the model begins or ends with.")
    number = {token: place for place, token in enumerate(kept)}
    rows = torch.tensor(kept)
    network = model.network
    with torch.random.fork_rng():  # the smaller network draws weights that are never used
        if isinstance(network, TokenTransformer):
            # It reads one more token, the mask.
            read = torch.tensor([*kept, model.vocabulary])
            chosen = {"embedding.weight": read, "head.weight": rows, "head.bias": rows}
            small: nn.Module = rebuilt(network, vocabulary=len(kept))
        else:
            assert isinstance(network, CausalLM)
            names = ("model.embed_tokens.weight", "transformer.wte.weight", "lm_head.weight")
            chosen = {f"model.{name}": rows for name in names}
            config = _renumbered(network._init_args["config"], number)
            small = rebuilt(network, config=config, vocabulary=len(kept))
    small.to(next(network.parameters()))
    small.load_state_dict(
        {
            name: each[chosen[name].to(each.device)] if name in chosen else each
            for name, each in network.state_dict().items()
        }
    )
    beginning = len(kept) if model.beginning == model.vocabulary else number[model.beginning]
    found = rebuilt(model, network=small, vocabulary=len(kept), beginning=beginning)
    return found.train(model.training)


def _renumbered(config: dict[str, Any], number: dict[int, int]) -> dict[str, Any]:
    changed: dict[str, Any] = {"vocab_size": len(number)}
    for name in SPECIAL:
        value = config.get(name)
        if isinstance(value, list):
            changed[name] = [number[each] for each in value if each in number]
        elif value is not None:
            changed[name] = number.get(value)
    return config | changed


def closed(definition: dict[str, Any], kept: set[int]) -> set[int]:
    """Tokens with all that a tokenizer needs to find them, in a text that has no other tokens.

    Of a BPE those that they are merged of, and single characters; added tokens of any.

    Args:
        definition: Contents of a ``tokenizer.json``.
        kept: Tokens that stay.

    Raises:
        InputError: It is neither a BPE nor a WordPiece nor a list of words.
    """
    model = definition["model"]
    kind, words = model.get("type", "BPE"), model["vocab"]
    if kind not in ("BPE", "WordPiece", "WordLevel"):
        raise InputError(
            f"tokenizer.json: expected a BPE, a WordPiece or a WordLevel, found {kind!r}."
        )
    found = set(kept) | {each["id"] for each in definition.get("added_tokens") or []}
    if (unknown := model.get("unk_token")) in words:
        found.add(words[unknown])
    if kind == "BPE":
        alone = {word for word in words if len(word) == 1 or _is_byte(word)}
        found |= {words[word] for word in alone}
        made = {left + right: (left, right) for left, right in map(_pair, model["merges"])}
        named = {number: word for word, number in words.items()}
        waiting = [named[each] for each in found if each in named]
        while waiting:
            for part in made.get(waiting.pop(), ()):
                if words[part] not in found:
                    found.add(words[part])
                    waiting.append(part)
    return found


def cut_tokenizer(definition: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """The tokenizer of a model whose token i was token ``kept[i]``; ``kept`` is :func:`closed`.

    Raises:
        InputError: It puts tokens around texts in a way that is not known.
    """
    number = {token: place for place, token in enumerate(kept)}
    found = copy.deepcopy(definition)
    model = found["model"]
    model["vocab"] = {w: number[each] for w, each in model["vocab"].items() if each in number}
    if "merges" in model:
        model["merges"] = [
            each for each in model["merges"] if "".join(_pair(each)) in model["vocab"]
        ]
    for each in found.get("added_tokens") or []:
        each["id"] = number[each["id"]]
    _renumber_ends(found.get("post_processor"), number)
    return found


def _renumber_ends(part: dict[str, Any] | None, number: dict[int, int]) -> None:
    """Numbers of the tokens that stand around a text."""
    kind = part and part["type"]
    if part is None or kind == "ByteLevel":
        return
    if kind == "Sequence":
        for each in part["processors"]:
            _renumber_ends(each, number)
    elif kind == "TemplateProcessing":
        for each in part["special_tokens"].values():
            each["ids"] = [number[old] for old in each["ids"]]
    elif kind in ("BertProcessing", "RobertaProcessing"):
        for name in ("sep", "cls"):
            part[name] = [part[name][0], number[part[name][1]]]
    else:
        raise InputError(f"tokenizer.json: expected a known post_processor, found {kind!r}.")


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _is_byte(word: str) -> bool:
    return len(word) == BYTE and word.startswith("<0x") and word.endswith(">")


def write_tokenizer(source: Path, target: Path, kept: list[int]) -> None:
    """The tokenizer of a folder without the tokens that do not stay, as the files of another."""
    path = source / "tokenizer.json"
    definition = read_json(path)
    cut = cut_tokenizer(definition, kept)
    text = json.dumps(cut, ensure_ascii=False)
    (target / path.name).write_text(text, encoding="utf-8")
    settings = source / "tokenizer_config.json"
    if settings.is_file():
        said = read_json(settings)
        added = said.get("added_tokens_decoder", {})
        number = {str(token): str(place) for place, token in enumerate(kept)}
        if added:
            said["added_tokens_decoder"] = {number[each]: added[each] for each in added}
        write_json(target / settings.name, said)
