"""Causal models of transformers, tiny and random: in, trained, and out again."""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from datamodules.text.completions import CompletionsDataModule
from kdlight.core.spec import build, spec_of
from kdlight.discrete.autoregressive import AutoregressiveGenerator
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.export.language_model import export_language_model
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.pretrained import causal_lm
from kdlight.training.optim import Optimization
from modules.language.next_token.logit_distillation import LogitDistillation
from tests.exactness.harness import fit

WORDS = ["<s>", "</s>", "user", "assistant", "a", "b", "c", "d"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def llama(folder, width=8, seed=0, vocab_size=10):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=width == 8,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    own = Tokenizer(WordLevel(vocabulary, unk_token="d"))
    own.pre_tokenizer = Whitespace()
    own.add_special_tokens(["<s>", "</s>"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=own, eos_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return str(folder)


def gpt2(folder):
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=10, n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


TOKENS = torch.tensor([[4, 5, 6], [7, 1, 2]])


@pytest.mark.parametrize("make", [llama, gpt2])
def test_logits_are_the_models_own_behind_its_first_token(make, tmp_path):
    folder = make(tmp_path)
    model = causal_lm(folder, length=3).eval()
    own = transformers.AutoModelForCausalLM.from_pretrained(folder)
    begun = torch.cat([torch.zeros(2, 1, dtype=torch.int64), TOKENS], dim=1)
    with torch.no_grad():
        expected = own(begun).logits
        torch.testing.assert_close(model(TOKENS), expected[:, :-1])
        torch.testing.assert_close(model.following(TOKENS), expected[:, -1])
        cut = causal_lm(folder, length=3, vocabulary=8)
        assert cut(TOKENS).shape == (2, 3, 8)
    again = build(spec_of(model))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(TOKENS), model(TOKENS))


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


PAIRS = [{"prompt": "a b", "completion": "c d"}, {"prompt": "c", "completion": "a"}] * 3


def test_a_student_with_adapters_learns_from_completions_and_goes_back(tmp_path):
    teacher, folder = llama(tmp_path / "teacher", width=16), llama(tmp_path / "student", seed=2)
    data = CompletionsDataModule(
        lines(tmp_path / "rows.jsonl", PAIRS), folder, length=8, batch_size=4, steps_per_epoch=5
    )
    student = causal_lm(folder, length=8, vocabulary=8, rank=2)
    before = {name: each.clone() for name, each in student.named_parameters()}
    module = LogitDistillation(
        causal_lm(teacher, length=8, vocabulary=8),
        student,
        ForwardKL(),
        Optimization(lr=0.05),
        iterations=5,
        ema_half_life=0,
    )
    fit(module, data)
    moved = {
        name for name, each in student.named_parameters() if not torch.equal(each, before[name])
    }
    assert moved
    assert all("lora" in name for name in moved)
    assert data.tokenizer is not None
    generator = TextGenerator(AutoregressiveGenerator(student), data.tokenizer.portable())
    export_language_model(generator, tmp_path / "out")
    own = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    begun = torch.cat([torch.zeros(2, 1, dtype=torch.int64), TOKENS], dim=1)
    with torch.no_grad():
        logits = own(begun).logits[:, :-1, :8]
        torch.testing.assert_close(logits, student.eval()(TOKENS), atol=1e-5, rtol=1e-5)
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert fast("a b c")["input_ids"] == [4, 5, 6]
    assert fast.eos_token == "</s>"


def test_completions_alone_are_scored(tmp_path):
    folder = llama(tmp_path / "model")
    data = CompletionsDataModule(lines(tmp_path / "a.jsonl", PAIRS), folder, length=6)
    part = data.parts[0]
    first = int(part["tokens"][:, 0].eq(4).nonzero()[0])
    assert part["tokens"][first].tolist() == [4, 5, 6, 7, 1, 1]
    assert part["mask"][first].tolist() == [False, False, True, True, True, False]
    chat = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    rows = lines(tmp_path / "b.jsonl", [{"messages": chat}, {"messages": chat[:2]}])
    part = CompletionsDataModule(rows, folder, length=12).parts
    whole = next(each for each in part if int(each["lengths"][0]) == 12)
    words = [WORDS[token] for token in whole["tokens"][0]]
    assert [word for word, own in zip(words, whole["mask"][0], strict=True) if own] == [
        "b", "</s>", "d", "</s>",
    ]  # fmt: skip


def test_bad_lines_and_models_are_named(tmp_path):
    folder = llama(tmp_path / "model")
    good = PAIRS[0]
    for row, message in (
        ({"prompt": "a", "completion": ""}, "line 2: expected a prompt and a completion that is"),
        ({"text": "a"}, "line 2: expected prompt and completion, or messages"),
        ({"prompt": "a " * 9, "completion": "b"}, "at most 6 tokens, found 11"),
        ({"messages": [{"role": "user", "content": "a"}]}, "expected a message of an assistant"),
        (
            {"messages": [{"role": None, "content": "a"}]},
            "message 1: expected a role and a content",
        ),
        ({"messages": [{"role": "assistant"}]}, "message 1: expected a role and a content"),
        ({"messages": ["a"]}, "message 1: expected a role and a content"),
        (
            {"messages": [{"role": "assistant", "content": 3}]},
            "content: expected text, found a whole",
        ),
    ):
        path = lines(tmp_path / "x.jsonl", [good, row])
        with pytest.raises(InputError, match=message):
            CompletionsDataModule(path, folder, length=6).setup()
    path = lines(tmp_path / "x.jsonl", [good, {"prompt": "a " * 9, "completion": "b"}])
    with pytest.raises(InputError, match="a prompt of fewer than 6 tokens, found 9"):
        CompletionsDataModule(path, folder, length=6, too_long="cut").setup()
    (tmp_path / "x.jsonl").write_text(json.dumps(good) + '\n{"prompt": "a", "comp')
    with pytest.raises(InputError, match="line 2: expected JSON"):
        CompletionsDataModule(str(tmp_path / "x.jsonl"), folder, length=6).setup()
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="expected a whole model, found adapters alone"):
        causal_lm(str(tmp_path / "adapters"), length=4)
    with pytest.raises(InputError, match="expected a token that ends a text, found none"):
        CompletionsDataModule(path, f"{folder}/tokenizer.json", length=6)
    with pytest.raises(InputError, match="no such file or folder"):
        causal_lm(str(tmp_path / "nothing"), length=4)
    with pytest.raises(InputError, match="at most the model's 10 tokens, found 11"):
        causal_lm(folder, length=4, vocabulary=11)


USER = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": ""}, "expected a content that is not empty"),
        ({"content": []}, "content: expected text, found"),
        ({"content": ["b"]}, "content: expected text, found 'b'"),
        ({"content": [{"type": "image", "url": "x"}]}, "content: expected text, found"),
        ({"content": [{"type": "text", "text": ""}]}, "expected a content that is not empty"),
        ({"tool_calls": 3}, "tool_calls: expected a list of objects, found a whole number"),
        ({"tool_calls": [{}]}, "tool_calls: expected a list of objects"),
        ({"tool_calls": []}, "expected a role and a content"),
    ],
)
def test_messages_that_a_template_would_write_as_they_are_not_meant(tmp_path, message, said):
    folder = llama(tmp_path / "model")
    wrong = {"messages": [USER, {"role": "assistant", **message}]}
    rows = [{"prompt": "a", "completion": "b"}] * 2 + [wrong]
    path = lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=f"rows.jsonl: line 3: message 2: {said}"):
        _ = CompletionsDataModule(path, folder, length=30, heldout=0.4).parts


def test_parts_of_text_are_their_text(tmp_path):
    folder = llama(tmp_path / "model")
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": " c"}]
    found = []
    for content in ("b c", parts):
        row = {"messages": [USER, {"role": "assistant", "content": content}]}
        path = lines(tmp_path / "rows.jsonl", [row, row])
        found.append(CompletionsDataModule(path, folder, length=12, heldout=0.5).parts[0])
    assert torch.equal(found[0]["tokens"], found[1]["tokens"])
