"""Token files: what goes in comes out, in a form that needs nothing of kdlight."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlight.errors import InputError
from kdlight.storage.tokens import (
    TokenFacts,
    Tokens,
    check_codec,
    digest_of,
    read_tokens,
    write_tokens,
)

FACTS = TokenFacts(
    sample_rate=16000,
    hop_length=320,
    frame_rate=50.0,
    codebook_size=1024,
    n_q=2,
    samples=1500,
    codec="codec.safetensors",
    codec_sha256="ab" * 32,
    codec_digest="cd" * 32,
    source="a.flac",
)
CODES = torch.arange(10).reshape(2, 5) * 100


@pytest.mark.parametrize(
    ("size", "kind"), [(1024, np.uint16), (1 << 16, np.uint16), ((1 << 16) + 1, np.int32)]
)
def test_codes_come_back_whatever_the_codebook(size: int, kind: type, tmp_path: Path) -> None:
    codes = CODES.clone()
    codes[1, 4] = size - 1
    tokens = Tokens(codes, replace(FACTS, codebook_size=size))
    path = tmp_path / "deep" / "a.npz"
    write_tokens(path, tokens)
    found = read_tokens(path)
    assert torch.equal(found.codes, codes)
    assert found.codes.dtype == torch.int64
    assert found.facts == tokens.facts
    assert np.load(path, allow_pickle=False)["codes"].dtype == kind
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.json", "a.npz"]


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (320, 1), (321, 2), (1500, 5)])
def test_a_frame_that_has_begun_counts(samples: int, frames: int) -> None:
    assert replace(FACTS, samples=samples).frames == frames


def test_codes_that_do_not_fit_their_description_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for codes, facts, why in (
        (CODES[:, :4], FACTS, r"expected codes \(2, 5\) for 1500 samples, found \(2, 4\)"),
        (CODES, replace(FACTS, codebook_size=900), "expected codes from 0 to 899, found 0 to 900"),
        (CODES - 1, FACTS, "found -1 to 899"),
    ):
        with pytest.raises(InputError, match=why):
            write_tokens(path, Tokens(codes, facts))
    with pytest.raises(InputError, match=r"ends in \.npz"):
        write_tokens(tmp_path / "a.txt", Tokens(CODES, FACTS))
    assert not list(tmp_path.iterdir())


def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    for name, codes in (("a", CODES), ("b", CODES + 1)):
        write_tokens(tmp_path / f"{name}.npz", Tokens(codes, FACTS))
    (tmp_path / "b.npz").replace(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"not the codes that a\.json describes"):
        read_tokens(tmp_path / "a.npz")


def test_what_tells_codecs_apart_is_their_weights_not_their_file() -> None:
    other = replace(FACTS, codec="other.ckpt", codec_sha256="00" * 32)
    check_codec(Path("a.npz"), FACTS, other)
    with pytest.raises(InputError, match=r"weights 000000000000\).*weights cdcdcdcdcdcd"):
        check_codec(Path("a.npz"), FACTS, replace(other, codec_digest="00" * 32))
    with pytest.raises(InputError, match="hop_length: expected 160 of the codec, found 320"):
        check_codec(Path("a.npz"), FACTS, replace(other, hop_length=160))
    check_codec(Path("a.npz"), FACTS, replace(other, n_q=8))
    with pytest.raises(InputError, match="n_q: expected at most 1, found 2"):
        check_codec(Path("a.npz"), FACTS, replace(other, n_q=1))


def test_the_digest_sees_names_shapes_kinds_and_values() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.tensor(1)}
    same = {"b": torch.tensor(1), "a": torch.zeros(3, 2).T}
    assert digest_of(weights) == digest_of(same)
    for change in (
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3).double()},
        {"a": torch.full((2, 3), 1e-30)},
        {"c": torch.zeros(1)},
    ):
        assert digest_of(weights | change) != digest_of(weights)
