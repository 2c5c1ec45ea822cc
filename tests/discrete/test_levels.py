"""Levels of a codec as rows of tokens: there and back, possible tokens, files filled."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datamodules.text.token_files import TokenFilesDataModule, starts_of
from kdlight.cli import main
from kdlight.commands.shared.filling import filled
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.levels import LevelDenoiser, interleaved, separated
from kdlight.errors import InputError
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokens import TokenFacts, Tokens, read_tokens, write_tokens

SIZE, LEVELS, FRAMES = 4, 3, 5
FACTS = TokenFacts(16000, 320, 50.0, SIZE, LEVELS, 0, "codec", "a", "b", "x.wav")


class Continued(torch.nn.Module):
    """Sure that every level has the code of the level before it, plus one."""

    def forward(self, tokens):
        before = torch.nn.functional.pad(tokens[:, :-1], (1, 0))
        wanted = (before + SIZE) // SIZE * SIZE + (before + 1) % SIZE
        wanted = torch.where(before < SIZE * LEVELS, wanted, 0).clamp(max=SIZE * LEVELS - 1)
        return torch.nn.functional.one_hot(wanted, SIZE * LEVELS).float() * 50


def codes_of(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SIZE, (LEVELS, frames), generator=generator)


def test_frame_by_frame_and_back():
    codes = torch.tensor([[0, 1], [2, 3], [1, 0]])
    row = interleaved(codes, SIZE)
    assert row.tolist() == [0, 6, 9, 1, 7, 8]
    assert torch.equal(separated(row, LEVELS, SIZE), codes)
    batch = torch.stack([codes_of(5, seed) for seed in range(2)])
    assert torch.equal(separated(interleaved(batch, SIZE), LEVELS, SIZE), batch)


def test_only_tokens_of_a_place_s_own_level_are_possible():
    network = TokenTransformer(SIZE * LEVELS, width=8, depth=1, heads=2)
    found = LevelDenoiser(network, SIZE, LEVELS, FRAMES)(torch.full((1, 15), SIZE * LEVELS)).exp()
    assert torch.allclose(found[0, 4, SIZE : 2 * SIZE], torch.full((SIZE,), 0.25))
    assert torch.allclose(found.sum(dim=2), torch.ones(1, 15))


@pytest.mark.parametrize("frames", [3, 5, 12])
def test_levels_are_filled_from_the_first_whatever_the_length(frames):
    generator = TokenGenerator(LevelDenoiser(Continued(), SIZE, LEVELS, FRAMES), "confidence")
    first = codes_of(frames)[:1]
    found = filled(generator, first, 15, 0)
    assert found.shape == (LEVELS, frames)
    assert torch.equal(found[0], first[0])
    assert torch.equal(found, filled(generator, first, 15, 0))


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, frames in (("a", 12), ("b", 3), ("c", 5), ("d", 10)):
        facts = replace(FACTS, samples=320 * frames)
        write_tokens(tmp_path / f"{name}.npz", Tokens(codes_of(frames), facts))
    return tmp_path


def test_windows_cover_every_file_and_score_the_upper_levels(folder):
    assert starts_of(12, 5) == [0, 5, 7]
    assert starts_of(3, 5) == [0]
    data = TokenFilesDataModule(str(folder), SIZE, LEVELS, frames=FRAMES, heldout=0.25)
    training, heldout = data.parts
    assert len(training["tokens"]) + len(heldout["tokens"]) == 3 + 1 + 1 + 2
    both = torch.cat([training["mask"], heldout["mask"]]).reshape(-1, FRAMES, LEVELS)
    assert not both[:, :, 0].any()
    assert sorted(both[:, :, 1].sum(dim=1).tolist()) == [3, 5, 5, 5, 5, 5, 5]


def test_files_that_do_not_fit_are_named(folder):
    with pytest.raises(InputError, match="expected 4 levels of 4 codes, found 3 of 4"):
        TokenFilesDataModule(str(folder), SIZE, 4).setup()
    other = replace(FACTS, samples=640, codec_digest="c")
    write_tokens(folder / "e.npz", Tokens(codes_of(2), other))
    with pytest.raises(InputError, match="e.npz: expected tokens of the codec of a.npz"):
        TokenFilesDataModule(str(folder), SIZE, LEVELS).setup()
    with pytest.raises(InputError, match="given: expected levels from 0 to 2, found 3"):
        TokenFilesDataModule(str(folder), SIZE, LEVELS, given=3)


def test_generate_fills_token_files_for_decode(folder, tmp_path, capsys):
    network = TokenTransformer(SIZE * LEVELS, width=8, depth=1, heads=2)
    model = folder / "model.safetensors"
    save_model(TokenGenerator(LevelDenoiser(network, SIZE, LEVELS, FRAMES)), model)
    words = ["generate", "--checkpoint", str(model), "--steps", "4", "--codes"]
    output = tmp_path / "full"
    assert main([*words, str(folder / "a.npz"), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    found, given = read_tokens(output / "a.npz"), read_tokens(folder / "a.npz")
    assert torch.equal(found.codes[0], given.codes[0])
    assert found.facts == given.facts
    assert main([*words, str(folder / "a.npz"), "--given", "3", "--output", str(output)]) == 2
    assert "--given: expected 1 to 2 levels, found 3" in capsys.readouterr().err
    assert main([*words, str(folder / "a.npz"), "--guidance-scale", "1"]) == 2
    assert "--codes: expected no --guidance-scale beside it" in capsys.readouterr().err
