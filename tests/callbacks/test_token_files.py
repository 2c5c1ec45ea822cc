"""What a run ends with is what `encode` and `decode` make of its codec."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from kdlight.callbacks.speech.tokens import TokenFiles
from kdlight.cli import main
from kdlight.errors import InputError
from kdlight.storage.audio import read_audio, write_audio
from kdlight.storage.tokens import read_tokens
from tests.callbacks.speech_runs import FewVoices, trained
from tests.exactness.harness import TinyImages, fit
from tests.guidance.tiny_guidance import RATE
from tests.modules.speech.guided_cases import TinyTalk, guided


def run(folder: Path, count: int = 1, **settings: Any) -> TinyTalk:
    data = TinyTalk()
    logger = CSVLogger(folder, name="", version="")
    fit(guided(iterations=3), data, [TokenFiles(count)], logger=logger, **settings)
    return data


def test_the_verbs_make_the_same_of_the_codec_that_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    first = run(folder, 2).heldout_utterances()[0]
    shown = capsys.readouterr().out
    assert first.transcript in shown
    assert len(list((folder / "tokens").glob("*.npz"))) == 2
    tokens = sorted((folder / "tokens").glob("*.npz"))
    for path in tokens:
        assert str(path.with_suffix(".wav")) in shown
    mine = next(path for path in tokens if read_tokens(path).facts.source == first.name)
    codes = read_tokens(mine).codes
    assert " ".join(map(str, codes[0, :20].tolist())) in shown

    words = ["--checkpoint", str(folder / "codec.safetensors"), "--output"]
    assert main(["decode", str(folder / "tokens"), *words, str(tmp_path / "spoken")]) == 0
    spoken = read_audio(tmp_path / "spoken" / f"{mine.stem}.wav")
    assert torch.equal(spoken, read_audio(mine.with_suffix(".wav")))
    assert spoken.shape[-1] == first.samples

    # The file rounds to 16 bits, so a code of it may differ here and there.
    write_audio(tmp_path / "said" / f"{mine.stem}.wav", first.read(), RATE)
    assert main(["encode", str(tmp_path / "said"), *words, str(tmp_path / "again")]) == 0
    again = read_tokens(tmp_path / "again" / mine.name).codes
    assert (again == codes).double().mean() > 0.95


def test_what_holds_no_tokens_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="TokenFiles: expected data of speech, found TinyImages"):
        fit(guided(), TinyImages(), [TokenFiles()])
    with pytest.raises(InputError, match="data.heldout: expected held-out utterances to encode"):
        trained(tmp_path, [TokenFiles()], FewVoices(heldout=0))
    with pytest.raises(InputError, match="utterances: expected a whole number above 0, found 0"):
        TokenFiles(0)
    assert not (tmp_path / "codec.safetensors").exists()
