"""Networks of transformers: the same interface, the library's own numbers, there and back."""

import json

import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.errors import InputError
from kdlight.networks.text.masked_lm import MaskedLM, masked_lm

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 7}
BERT = {"model_type": "bert", "intermediate_size": 8, "max_position_embeddings": 9, **SMALL}
MODERN = {"model_type": "modernbert", "intermediate_size": 8, "pad_token_id": 0, **SMALL}


def made(config, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MaskedLM(config, **arguments).eval()


@pytest.mark.parametrize("config", [BERT, MODERN], ids=["bert", "modernbert"])
def test_masked_models_see_both_sides_and_never_predict_a_mask(config):
    network = made(config, mask_token=6)
    denoiser = MaskedDenoiser(network, 7, 4)
    first, second = torch.tensor([[7, 2, 7, 0]]), torch.tensor([[7, 2, 7, 1]])
    found = denoiser(first)
    assert torch.allclose(found.exp().sum(dim=2), torch.ones(1, 4))
    assert not torch.allclose(found[0, 0], denoiser(second)[0, 0])
    assert (found[0, 0, 6], found[0, 1, 2]) == (-torch.inf, 0)
    # The library's own numbers.
    own = network.model(torch.tensor([[6, 2, 6, 0]])).logits[0, 0, :6].log_softmax(dim=0)
    assert torch.allclose(found[0, 0, :6], own, atol=1e-6)


def test_a_network_travels_by_its_spec_and_through_a_folder(tmp_path):
    import tokenizers
    import transformers

    network = made(BERT, mask_token=6)
    again = build(json.loads(json.dumps(spec_of(network)))).eval()
    again.load_state_dict(network.state_dict())
    tokens = torch.tensor([[7, 2, 1]])
    assert torch.equal(again(tokens), network(tokens))
    network.whole().save_pretrained(tmp_path)
    words = {word: number for number, word in enumerate([*"abcdef", "[MASK]"])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "a"))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, mask_token="[MASK]")
    fast.save_pretrained(tmp_path)
    back = masked_lm(str(tmp_path), length=3).eval()
    assert (back.length, back.vocabulary, back.network.mask_token) == (3, 7, 6)
    assert torch.equal(back.network(tokens), network(tokens))


def test_what_is_no_model_is_said_in_a_sentence(tmp_path):
    import transformers

    with pytest.raises(InputError, match="expected a vocab_size, and a mask_token below it"):
        MaskedLM({"model_type": "bert"})
    with pytest.raises(InputError, match="Unrecognized model identifier: x"):
        MaskedLM({"model_type": "x", "vocab_size": 3})
    with pytest.raises(InputError, match="expected a masked language model of transformers"):
        masked_lm(str(tmp_path), 3)
    headless = transformers.BertConfig(intermediate_size=8, **SMALL)
    transformers.BertModel(headless).save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match="weights of a masked language model of transformers, found 6 missing"
    ):
        masked_lm(str(tmp_path), 3)
