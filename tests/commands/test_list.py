"""``list``: one screen, and the lines that hold a word."""

from tests.commands.tiny import Run


def test_list_is_one_screen(kdlight: Run) -> None:
    code, out, _ = kdlight("list")
    assert code == 0
    for name in ("ProgressiveDistillation,", "CodecTraining,", "configs/digits ", "digits_tea"):
        assert name in out
    lines = out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert "FewStepModule" not in out, "what methods share is no method"
    assert "HasPool" not in out, "what a method asks of its data is no method"


def test_list_keeps_what_holds_a_word(kdlight: Run) -> None:
    methods = kdlight("list", "methods", "speech").out.splitlines()
    assert methods
    assert all("modules.speech." in line for line in methods)
    configs = kdlight("list", "configs", "DIGITS/dmd2").out.split()
    assert configs[0] == "configs/digits/dmd2.yaml"
    assert "digits_teacher" in kdlight("list", "models").out
    code, out, err = kdlight("list", "configs", "nothing of the kind")
    assert (code, out, err.count("\n")) == (2, "", 1)
