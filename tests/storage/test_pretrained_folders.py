"""Folders of transformers and diffusers with settings of the wrong type: one sentence each."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    HubertConfig,
    HubertModel,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
)

from kdlight.codec.foreign.files import read_transformers
from kdlight.errors import InputError
from kdlight.metrics.images.captions import CLIPScore
from kdlight.metrics.images.extractors import TransformersFeatures
from kdlight.networks.text.masked_lm import masked_lm
from kdlight.networks.text.pretrained import causal_lm
from kdlight.storage.pretrained import reason, whole
from kdlight.teachers.diffusion import diffusers_teacher
from kdlight.teachers.language_judge import LanguageJudge
from kdlight.teachers.latent import latent_teacher
from kdlight.teachers.speech import SpeechTeacher
from kdlight.teachers.text import TextTeacher
from tests.codec.foreign.models import MAKERS
from tests.fuzz import published
from tests.fuzz.damage.places import leaves, replaced
from tests.fuzz.judge import RAW
from tests.modules.diffusion.latent import write_pipeline

SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
WRONG: list[Any] = [None, "x", -1, 0.5, 10**12, [], [1, 2], {"x": 1}, True]


def _codec(kind: str) -> Callable[[Path], None]:
    return lambda folder: MAKERS[kind]().save_pretrained(folder)


def _hubert(folder: Path) -> None:
    convolutions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    settings = HubertConfig(hidden_size=8, conv_dim=[8] * 7, **convolutions, **SIZES)
    HubertModel(settings).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def _words(folder: Path) -> None:
    words = {"[UNK]": 0, "[MASK]": 1, "</s>": 2, "a": 3, "b": 4}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", mask_token="[MASK]", eos_token="</s>"
    ).save_pretrained(folder)


def _gpt2(folder: Path, kind: Any = GPT2LMHeadModel) -> None:
    kind(
        GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=2)
    ).save_pretrained(folder)
    _words(folder)


def _bert(folder: Path) -> None:
    BertForMaskedLM(BertConfig(vocab_size=8, hidden_size=8, **SIZES)).save_pretrained(folder)
    _words(folder)


def _draw(teacher: Any) -> None:
    label = {"label": torch.zeros(1, dtype=torch.long)} if teacher.num_classes else None
    if max(teacher.shape) < 100:
        teacher(torch.randn(1, *teacher.shape), label, 2)


def _code(folder: str) -> None:
    codec = read_transformers(folder)
    codec.decode(codec.encode(torch.randn(1, 1, 7 * codec.hop_length + 3)))


FOLDERS: dict[str, tuple[Callable[[Path], None], Callable[[str], Any]]] = {
    **{kind: (_codec(kind), _code) for kind in ("encodec", "dac", "mimi", "xcodec")},
    "diffusers": (published._pipeline, lambda f: _draw(diffusers_teacher(f))),
    "latent": (write_pipeline, lambda f: _draw(latent_teacher(f, ["a"]))),
    "vision": (published._vision, lambda f: TransformersFeatures(f)(torch.zeros(1, 3, 9, 9))),
    "clip": (published._clip, lambda f: CLIPScore(f).update(torch.zeros(1, 1, 9, 9), ["a b"])),
    "hubert": (_hubert, lambda f: SpeechTeacher(f)(torch.randn(1, 1, 900))),
    "causal": (_gpt2, lambda f: causal_lm(f, 4)(torch.zeros(1, 4, dtype=torch.long))),
    "judge": (_gpt2, lambda f: LanguageJudge(f).nll(["a b"])),
    "masked": (_bert, lambda f: masked_lm(f, 4).network(torch.zeros(1, 4, dtype=torch.long))),
    "text": (_bert, lambda f: TextTeacher(f)(["a b"])),
}


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(FOLDERS))
@torch.no_grad()
def test_a_setting_of_the_wrong_type_is_one_sentence(name: str, count: int, tmp_path: Path) -> None:
    make, use = FOLDERS[name]
    torch.manual_seed(0)
    good, bad = tmp_path / "good", tmp_path / "bad"
    make(good)
    use(str(good))
    source = random.Random(count)
    wrong = []
    files = sorted(good.rglob("*.json"))
    for _ in range(count):
        file, value = source.choice(files), source.choice(WRONG)
        known = json.loads(file.read_text())
        place = source.choice(leaves(known))
        shutil.copytree(good, bad)
        (bad / file.relative_to(good)).write_text(json.dumps(replaced(known, place, value)))
        try:
            use(str(bad))
        except InputError as error:
            if "\n" in str(error) or RAW.search(str(error)):
                wrong.append((file.name, place, value, str(error)))
        except Exception as error:
            wrong.append((file.name, place, value, repr(error)))
        shutil.rmtree(bad)
    assert not wrong, "\n".join(map(str, wrong))


def test_layers_without_end_are_refused_before_they_are_made(tmp_path: Path) -> None:
    _gpt2(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "n_layer": 10**12}))
    with pytest.raises(InputError, match=r"json: n_layer: expected at most 1000, found 1000000"):
        causal_lm(str(tmp_path), 4)


def test_weights_that_would_be_drawn_at_random_are_missing(tmp_path: Path) -> None:
    _gpt2(tmp_path, GPT2Model)
    whole(AutoModelForCausalLM, tmp_path, "a causal model")  # its head is its embedding
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    for load in (lambda: causal_lm(str(tmp_path), 4), lambda: LanguageJudge(str(tmp_path))):
        with pytest.raises(InputError, match=r"found 1 missing, such as lm_head\.weight\.$"):
            load()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("No head. Nor tail."), " (No head)"),
        (TypeError("'NoneType' object is not iterable"), ""),
        (ValueError("odd for <class 'int'>"), ""),
        (RuntimeError("Field 'act' expected str, got int (value: 0)"), " (act: found a value of"),
        (RuntimeError(""), ""),
    ],
)
def test_a_library_is_quoted_where_it_speaks_to_users(error: Exception, said: str) -> None:
    assert reason(error).startswith(said)
    assert bool(reason(error)) == bool(said)
