import pytest
import torch
from safetensors.torch import load_file, save_file

from datamodules.text.oracle_language import OracleLanguageDataModule
from datamodules.text.token_pairs import TokenPairsDataModule
from kdlight.discrete.autoregressive import AutoregressiveGenerator, OracleAutoregressive
from kdlight.discrete.denoiser import OracleDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.token_flow import TokenCodes
from kdlight.errors import InputError
from kdlight.teachers import token_pairs
from kdlight.teachers.token_pairs import TokenPairs


@pytest.fixture
def teacher(monkeypatch):
    monkeypatch.setattr(token_pairs, "PART", 10)
    return AutoregressiveGenerator(OracleAutoregressive(HMMLanguage(3, vocabulary=3, length=4)))


def test_what_was_interrupted_goes_on_where_it_stopped(teacher, tmp_path):
    pairs = TokenPairs(teacher, TokenCodes(3, 1), 25, folder=tmp_path)
    pairs.make()
    whole = pairs.read()
    assert {name: tuple(value.shape) for name, value in whole.items()} == {
        "noise": (25, 4, 1),
        "tokens": (25, 4),
    }
    parts = sorted(pairs.folder.iterdir())
    assert len(parts) == 3
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    pairs.make()
    assert torch.equal(pairs.read()["tokens"], whole["tokens"])
    assert parts[0].stat().st_mtime_ns == kept
    fewer = TokenPairs(teacher, TokenCodes(3, 1), 12, folder=tmp_path)
    assert torch.equal(fewer.read()["noise"], whole["noise"][:12])
    others = TokenPairs(teacher, TokenCodes(3, 1, seed=1), 12, folder=tmp_path)
    assert others.folder != pairs.folder


def test_damage_and_what_does_not_fit_are_named(teacher, tmp_path):
    codes = TokenCodes(3, 1)
    pairs = TokenPairs(teacher, codes, 5, folder=tmp_path)
    pairs.make()
    (part,) = pairs.folder.iterdir()
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(InputError, match="truncated, or not a safetensors file; remove it"):
        pairs.read()
    masked = TokenGenerator(OracleDenoiser(HMMLanguage(3, vocabulary=3, length=4)))
    with pytest.raises(InputError, match="left to right, found one that samples by first_hitting"):
        TokenPairs(masked, codes, 5)
    with pytest.raises(InputError, match="vocabulary 3, found 4"):
        TokenPairs(teacher, TokenCodes(4, 1), 5)


def test_batches_hold_noise_and_the_reference_judges(teacher, tmp_path):
    reference = OracleLanguageDataModule(HMMLanguage(3, vocabulary=3, length=4), 1, 8)
    data = TokenPairsDataModule(
        teacher, TokenCodes(3, 2), reference, count=7, folder=str(tmp_path), batch_size=4
    )
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert batch["noise"].shape == (4, 4, 2)
    assert batch["tokens"].shape == (4, 4)
    assert next(iter(data.heldout_dataloader()))["tokens"].shape == (8, 4)
    assert len(data.judges()) == 1


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("tokens", torch.float32),
        ("tokens", torch.bool),
        ("noise", torch.half),
        ("noise", torch.int),
    ],
)
def test_pairs_of_other_numbers_are_refused(teacher, tmp_path, name, dtype):
    pairs = TokenPairs(teacher, TokenCodes(3, 1), 10, folder=tmp_path)
    pairs.make()
    (path,) = pairs.folder.iterdir()
    tensors = load_file(path)
    save_file(tensors | {name: tensors[name].to(dtype)}, path, pairs.facts)
    with pytest.raises(InputError, match=r"expected tensors of \{'noise': 'torch.float32'"):
        pairs.read()
