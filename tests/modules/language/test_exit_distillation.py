import json

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from datamodules.text.code_pairs import CodePairsDataModule
from datamodules.text.ranking import Ranked
from kdlight.callbacks.language.retrieval_report import RetrievalReport
from kdlight.cli import main
from kdlight.core.spec import spec_of
from kdlight.errors import InputError
from kdlight.losses.language.contrastive import clip_loss
from kdlight.networks.text.encoder import transformer_encoder
from kdlight.networks.text.exits import ExitEncoder
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import HashedWordsTokenizer
from kdlight.training.optim import Optimization
from modules.language.structure.exit_distillation import ExitDistillation
from tests.exactness.cases import CASES
from tests.exactness.harness import fit
from tests.exactness.text_cases import exit_encoder

TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 0, 0], [2, 2, 1, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
SMALL = {
    "vocab_size": 5,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_a_prefix_is_bit_equal_also_as_a_folder_of_transformers(kind, tmp_path):
    places = {"model_type": kind, "max_position_embeddings": 8, "pad_token_id": 0}
    network = ExitEncoder(SMALL | places, [1, 2]).eval()
    both = network(TOKENS, MASK)
    save_model(network, tmp_path / "exits.safetensors")
    for place, layer in enumerate((1, 2)):
        assert torch.equal(network.prefix(layer)(TOKENS, MASK), both[:, place])
        where = ["--checkpoint", str(tmp_path / "exits.safetensors"), "--exit", str(layer)]
        folder = str(tmp_path / f"{kind}_{layer}")
        assert main(["export", *where, "--to", "transformers", "--output", folder]) == 0
        assert torch.equal(transformer_encoder(folder).eval()(TOKENS, MASK), both[:, place])
    assert (
        json.loads((tmp_path / f"{kind}_1" / "config.json").read_text())["num_hidden_layers"] == 1
    )


def test_an_exit_moves_no_layer_above_it():
    network = exit_encoder(3, [1, 3])
    vectors = network(TOKENS, MASK)[:, 0]
    clip_loss(vectors, vectors.roll(1, dims=0), 10.0).sum().backward()
    moved = {
        name.split(".")[4]
        for name, weight in network.named_parameters()
        if ".layer." in name and weight.grad is not None and weight.grad.abs().max() > 0
    }
    assert moved == {"0"}


def made(network, **settings):
    return ExitDistillation(network, Optimization(), **settings)


def losses(method, monkeypatch):
    """What a batch of pairs costs."""
    found = {}
    monkeypatch.setattr(method, "optimize", lambda name, loss: found.update(loss=loss))
    monkeypatch.setattr(method, "report", found.update)
    queries, passages = TOKENS, TOKENS.roll(1, dims=0)[:, None]
    seen = {"query_mask": MASK, "passages_mask": MASK.roll(1, dims=0)[:, None]}
    method.step({"query": queries, "passages": passages, **seen})
    vectors = method.student(TOKENS, MASK), method.student(TOKENS.roll(1, 0), MASK.roll(1, 0))
    return found, vectors


def test_one_exit_is_clip_and_several_are_weighed_by_their_depth(monkeypatch):
    found, (queries, passages) = losses(made(exit_encoder(2, [2])), monkeypatch)
    torch.testing.assert_close(found["loss"], clip_loss(queries[:, 0], passages[:, 0], 10.0).mean())
    found, _ = losses(made(exit_encoder(3, [1, 3])), monkeypatch)
    torch.testing.assert_close(found["loss"], found["clip_1"] / 3 + found["clip_3"])
    found, _ = losses(made(exit_encoder(3, [1, 3]), weights=[0.0, 1.0]), monkeypatch)
    torch.testing.assert_close(found["loss"], found["clip_3"])
    more, _ = losses(made(exit_encoder(3, [1, 3]), self_distillation=0.5), monkeypatch)
    assert more["loss"] > more["clip_1"] / 3 + more["clip_3"]


def test_every_exit_has_a_row(tmp_path):
    case = CASES["exit_distillation"]
    logger = CSVLogger(tmp_path, name="", version="")
    fit(case.make(), case.data(), [RetrievalReport()], logger=logger)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert [row["model"] for row in found] == ["exit_1", "exit_2"]
    assert all(0 <= row["mrr_10"] <= 1 for row in found)


def test_functions_of_a_module_are_held_out_together(monkeypatch):
    known = [(f"m{n % 5}", f"text {n}", f"code {n}") for n in range(40)]
    monkeypatch.setattr("datamodules.text.code_pairs.code_pairs", lambda: known)
    training, heldout = CodePairsDataModule(HashedWordsTokenizer(50)).rows()
    assert training[0] == Ranked("text 0", ["code 0"], [0.0])
    assert (len(training), len(heldout)) == (32, 8)
    assert len({int(row.query.split()[1]) % 5 for row in heldout}) == 1
    assert sum(map(len, CodePairsDataModule(HashedWordsTokenizer(50), most=10).rows())) == 10


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(InputError, match=r"exits: expected layers from 1 to 2 in order, found \[3"):
        exit_encoder(2, [3])
    with pytest.raises(InputError, match="model_type: expected one of bert, .*found 'gpt2'"):
        ExitEncoder({"model_type": "gpt2"}, [1])
    with pytest.raises(InputError, match="exit: expected one of 1, 2, found 3"):
        exit_encoder(2, [1, 2]).prefix(3)
    with pytest.raises(InputError, match=r"weights: expected 1 numbers .* found \[0.0\]"):
        made(exit_encoder(2, [2]), weights=[0.0])
    assert spec_of(exit_encoder(2, [1, 2]))["init_args"]["exits"] == [1, 2]
