"""A masked model of transformers goes back as what it is."""

import pytest
import torch

from kdlight.cli import main
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import TextGenerator
from kdlight.export.language_model import _write_tokenizer
from kdlight.networks.text.masked_lm import MaskedLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    FileTokenizer,
    SubwordTokenizer,
)

BERT = {
    **{"model_type": "bert", "vocab_size": 4, "hidden_size": 8, "intermediate_size": 8},
    **{"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 9},
}


def export(model, folder):
    save_model(model, folder / "model.safetensors")
    words = ["--checkpoint", str(folder / "model.safetensors"), "--to", "transformers"]
    return main(["export", *words, "--output", str(folder / "out")])


def test_a_folder_of_transformers_has_its_numbers_and_its_tokenizer(tmp_path, capsys):
    import tokenizers
    import transformers

    words = {word: number for number, word in enumerate([*"abc", "[MASK]"])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "a"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MaskedLM(BERT, mask_token=3).eval()
    generator = TokenGenerator(MaskedDenoiser(network, 4, 3))
    assert export(TextGenerator(generator, SubwordTokenizer(plain.to_str())), tmp_path) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.tensor([[3, 1, 2]])
    assert torch.equal(loaded(tokens).logits, network.model(tokens).logits)
    back = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert back.encode("c").ids == [2]


def test_a_network_of_our_own_is_refused(tmp_path, capsys):
    network = TokenTransformer(5, width=8, depth=1, heads=2)
    generator = TokenGenerator(MaskedDenoiser(network, 5, 3))
    assert export(TextGenerator(generator, CharacterTokenizer("abc")), tmp_path) == 2
    error = capsys.readouterr().err
    assert "expected a model of transformers to write, found MaskedDenoiser" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "own", [ByteTokenizer(), CharacterTokenizer(), CharacterTokenizer("ab\u20ac\n ")]
)
def test_bytes_and_characters_keep_their_numbers_in_a_folder(own, tmp_path):
    _write_tokenizer(own, tmp_path)
    read = FileTokenizer(str(tmp_path))
    assert (read.size, read.end, read.unknown) == (own.size, own.end, own.unknown)
    for text in ("a b\n\u20ac\t~x", "", "<|end|", "  ab  "):
        assert read.encode(text) == own.encode(text)
        assert read.decode(own.encode(text)) == own.decode(own.encode(text))
    assert read.lacks("a\u20acb\u00e9") == own.lacks("a\u20acb\u00e9")
    everything = list(range(own.size - 1))
    assert read.decode(everything) == own.decode(everything)
