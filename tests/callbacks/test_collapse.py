"""The alarm against closed forms of usage, and in a run from the command line."""

from pathlib import Path

import pytest
import torch
import yaml

from kdlight.callbacks.speech.collapse import CollapseAlarm, counted, expected_usage
from kdlight.cli import main

TINY_CODEC = Path(__file__).parents[1] / "commands" / "tiny_codec.yaml"


def window(alarm: CollapseAlarm, codes: torch.Tensor, iteration: int) -> None:
    """One window in which these codes (n, F) of eight were drawn."""
    alarm._counts = counted(codes[None], len(codes), 8)
    alarm._low = alarm._low or [0] * len(codes)
    alarm._usage = alarm._usage or [None] * len(codes)
    alarm._judge(iteration)


def test_even_use_is_the_mean_number_of_distinct_draws() -> None:
    drawn = torch.randint(0, 8, (20_000, 5), generator=torch.Generator().manual_seed(0))
    distinct = torch.stack([(drawn == code).any(dim=1) for code in range(8)]).sum(dim=0)
    found = expected_usage(torch.tensor([0, 1, 5]), 8)
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / 8)
    assert found[2] == pytest.approx(distinct.double().mean().item() / 8, abs=2e-3)


def test_codes_are_counted_level_by_level() -> None:
    codes = torch.tensor([[[0, 0, 2], [1, 1, 1]], [[2, 2, 2], [0, 1, 0]]])
    assert counted(codes, 3, 3).tolist() == [[2, 0, 4], [2, 4, 0], [0, 0, 0]]


def test_one_code_alone_stops_the_run_after_its_patience() -> None:
    alarm = CollapseAlarm(window=10, limit=0.3, patience=2, grace=5)
    all_codes, one_code = torch.arange(800) % 8, torch.zeros(800, dtype=torch.int64)
    codes = torch.stack([all_codes, one_code])
    window(alarm, codes, 10)  # began within the grace
    window(alarm, codes, 20)
    window(alarm, torch.stack([all_codes, all_codes]), 30)  # recovers
    window(alarm, codes, 40)
    with pytest.raises(RuntimeError, match="collapse at iteration 50: level 2 used 1 of 8 codes"):
        window(alarm, codes, 50)
    assert alarm._usage == pytest.approx([1.0, 1 / 8])


def test_a_level_that_dropout_leaves_out_says_nothing() -> None:
    alarm = CollapseAlarm(window=10, limit=0.3, patience=1, grace=0)
    alarm._counts, alarm._low, alarm._usage = torch.zeros(1, 8, dtype=torch.int64), [0], [None]
    alarm._judge(10)
    assert alarm._usage == [None]


def test_a_run_is_stopped_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(TINY_CODEC.read_text())
    # Seven times as many draws as codes, so that even one unused code is too few.
    config["trainer"]["callbacks"][0]["init_args"] |= {"limit": 0.9999, "patience": 1}
    config["model"]["init_args"]["codec"]["init_args"]["quantizer"]["init_args"] |= {
        "expire_below": 0.0
    }
    strict = tmp_path / "strict.yaml"
    strict.write_text(yaml.safe_dump(config))
    words = ["fit", "--config", str(strict), "--runs_dir", str(tmp_path / "runs")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "kdlight fit: failed: codebook collapse at iteration" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.tmp"))
