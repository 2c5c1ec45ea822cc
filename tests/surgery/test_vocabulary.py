import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from kdlight.cli import main
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import causal_lm
from kdlight.surgery.vocabulary import (
    closed,
    cut_tokenizer,
    cut_vocabulary,
    special_tokens,
    token_shares,
)
from tests.surgery.networks import KINDS, V, model_of

KEPT = [0, 1, 2, 5, 9]
TEXT = "the cat sat on the mat and the dog sat on the log . " * 3


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_the_tokens_that_stay_are_the_same_bits(kind):
    model = model_of(kind)
    small = cut_vocabulary(model, KEPT)
    tokens = torch.tensor([[2, 3, 4, 0, 3], [1, 1, 2, 4, 0]])
    whole = model(torch.tensor(KEPT)[tokens])
    assert torch.equal(small(tokens), whole[..., KEPT])
    assert (small.vocabulary, small.beginning) == (5, 0)
    assert len(small.state_dict()) == len(model.state_dict())


def test_keeping_all_changes_nothing_and_what_is_needed_is_named():
    model = model_of("llama")
    every = cut_vocabulary(model, list(range(V)))
    tokens = torch.tensor([[3, 4, 5]])
    assert torch.equal(every(tokens), model(tokens))
    assert special_tokens(model) == {0, 1}
    with pytest.raises(InputError, match=r"kept: expected \[0\] too, which the model begins"):
        cut_vocabulary(model, [1, 2])
    with pytest.raises(InputError, match="kept: expected tokens from 0 to 10 in order"):
        cut_vocabulary(model, [1, 0])


def test_shares_are_of_what_is_no_padding():
    tokens = torch.tensor([[1, 2, 2], [1, 0, 0]])
    real = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    assert token_shares([(tokens, real)], 4).tolist() == [0.0, 0.5, 0.5, 0.0]


def merged(byte_level: bool) -> Tokenizer:
    own = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>"))
    own.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if byte_level
        else pre_tokenizers.Whitespace()
    )
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    own.train_from_iterator([TEXT, "quartz fjord waltz quartz fjord"], trainer)
    own.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return own


@pytest.mark.parametrize("byte_level", [True, False])
def test_texts_of_the_tokens_that_stay_are_read_as_before(byte_level):
    own = merged(byte_level)
    definition = json.loads(own.to_str())
    ids = own.encode(TEXT).ids
    kept = sorted(closed(definition, set(ids)))
    assert len(kept) < own.get_vocab_size()
    small = Tokenizer.from_str(json.dumps(cut_tokenizer(definition, kept)))
    found = small.encode(TEXT).ids
    assert [kept[each] for each in found] == ids
    assert small.decode(found) == own.decode(ids)
    assert small.get_vocab_size() == len(kept)
    rare = small.encode("quartz")  # in more pieces, and still itself
    assert small.decode(rare.ids).replace(" ", "") == "quartz"


def test_a_tokenizer_of_another_kind_is_named():
    with pytest.raises(InputError, match="expected a BPE, a WordPiece or a WordLevel, found 'Uni"):
        closed({"model": {"type": "Unigram", "vocab": []}}, {0})


def test_a_folder_stays_one_of_transformers(tmp_path):
    own = merged(byte_level=True)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(tmp_path / "big")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=own.get_vocab_size() + 6,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "big")
    (tmp_path / "texts.txt").write_text(TEXT * 40)
    words = ["prune", str(tmp_path / "big"), "--vocabulary-of", str(tmp_path / "texts.txt")]
    layers = ["--keep", "layers=1", "--layers-by", "every", "--length", "8"]
    layers += ["--calibration", str(tmp_path / "texts.txt")]
    assert main([*words, *layers, "--output", str(tmp_path / "both")]) == 0
    assert main([*words, "--length", "8", "--output", str(tmp_path / "small")]) == 0
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "small")
    ids, old = read(TEXT)["input_ids"], fast(TEXT)["input_ids"]
    kept = json.loads((tmp_path / "small" / "pruning.json").read_text())["kept_tokens"]
    assert [kept[each] for each in ids] == old
    assert read.eos_token_id == stock.config.eos_token_id == kept.index(1)
    assert stock.config.vocab_size == len(kept) < own.get_vocab_size()
    big = causal_lm(str(tmp_path / "big"), length=8).eval()
    found = causal_lm(str(tmp_path / "small"), length=8).eval()
    given, known = torch.tensor([ids[:8]]), torch.tensor([old[:8]])
    assert torch.equal(found(given), big(known)[..., kept])
    assert transformers.AutoConfig.from_pretrained(tmp_path / "both").num_hidden_layers == 1
