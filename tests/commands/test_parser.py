"""What a value on the command line becomes."""

import pytest

from kdlight.cli import main
from kdlight.storage.yaml_text import load_yaml

WRAPPED = "data.init_args.data.init_args."


@pytest.mark.parametrize(
    ("given", "expected"),
    [("null", None), ("None", None), ("none.csv", "none.csv"), ("Nones", "Nones")],
)
def test_null_reaches_a_class_within_a_class(
    given: str, expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "--config", "configs/imagenet224/mdcs.yaml", "--print_config"]
    assert main([*words, f"--{WRAPPED}labels", given]) == 0
    data = load_yaml(capsys.readouterr().out)["data"]["init_args"]["data"]["init_args"]
    assert data["labels"] == expected
    assert data["size"] == 224


def test_speakers_whose_names_are_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", "configs/speech/codec_tiny.yaml", "--print_config"]
    assert main([*words, "--data.init_args.heldout", "[1034, anna]"]) == 0
    data = load_yaml(capsys.readouterr().out)["data"]["init_args"]
    assert data["heldout"] == [1034, "anna"]
