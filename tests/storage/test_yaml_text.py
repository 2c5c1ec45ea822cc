"""YAML whose reading loses a value or never ends is refused at once."""

from collections.abc import Callable

import pytest
import yaml

from kdlight.storage.yaml_text import UnmeantYAMLError, check_yaml, load_yaml

LAUGH = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("name: a\nseed: 1\nname: b\n", "the key 'name' is given twice", 2),
        ("model: {init_args: {lr: 1, lr: 2}}\n", "the key 'lr' is given twice", 0),
        ("model: &a {init_args: *a}\n", "this part contains itself", 0),
        ("a: &a [1, *a]\n", "this part contains itself", 0),
        (LAUGH, "aliases unfold to more than 100,000 values", 5),
    ],
)
def test_what_no_user_means(text: str, problem: str, line: int) -> None:
    with pytest.raises(UnmeantYAMLError) as caught:
        check_yaml(text)
    assert caught.value.problem == problem
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == line


@pytest.mark.parametrize("read", [check_yaml, load_yaml])
def test_deep_nesting_ends(read: Callable[[str], object]) -> None:
    with pytest.raises(UnmeantYAMLError, match="nested too deep"):
        read("[" * 100_000)


def test_a_file_that_would_take_minutes() -> None:
    with pytest.raises(UnmeantYAMLError, match="longer than 4,000,000 characters"):
        check_yaml("# x" * 2_000_000)


def test_what_users_mean_passes() -> None:
    check_yaml("base: &b {lr: 1}\nmodel:\n  <<: *b\n  <<: *b\n  steps: [*b, *b]\n")
    check_yaml("")
    with pytest.raises(yaml.YAMLError):
        check_yaml("model: [1\n")


@pytest.mark.parametrize("text", ['name: "a\\0b"', '"a\\0": 1', 'a: {b: [1, "\\x00"]}'])
def test_what_no_file_is_called_is_no_text(text):
    with pytest.raises(yaml.YAMLError, match="'.x00' is no character of a text"):
        check_yaml(text)
