"""The figures of a converter: of speech as it is they are known, of a converter they are finite."""

import math
from types import SimpleNamespace

import pytest
import torch

from datamodules.speech.formant import FormantDataModule
from datamodules.speech.one_voice import OneVoiceDataModule
from kdlight.callbacks.speech.conversion import ConversionReport
from kdlight.errors import InputError
from kdlight.guidance.speech import SpeechSource
from kdlight.metrics.speech.conversion import FittedProbe, spread, voice_row
from kdlight.networks.speech.converter import VoiceConverter
from kdlight.storage.files import read_json
from kdlight.teachers.mel import MelTeacher
from kdlight.training.optim import Optimization
from modules.speech.adversarial_conversion import AdversarialConversion
from tests.exactness.speech_cases import one_voice


def converter(target="formant001"):
    return AdversarialConversion(
        VoiceConverter(80, channels=8, layers=1),
        SpeechSource(MelTeacher()),
        target,
        Optimization(),
        iterations=3,
    )


@pytest.fixture(scope="module")
def data():
    spoken = FormantDataModule(speakers=5, utterances=2, words=(1, 2), heldout=2)
    return OneVoiceDataModule(spoken, "formant001")


def trainer(data, folder=None):
    return SimpleNamespace(log_dir=folder and str(folder), is_global_zero=True, datamodule=data)


def test_speech_as_it_is_and_converted(data, tmp_path):
    module = converter()
    report = ConversionReport()
    report.setup(trainer(data), module, "fit")
    report.on_train_end(trainer(data, tmp_path), module)
    student, source = read_json(tmp_path / "summary.json")
    assert (student["model"], source["model"]) == ("student", "source")
    assert source["mel_to_source"] == 0
    assert 0.2 < source["mel_to_target"] < 3
    assert source["phone_probe"] > student["phone_probe"]
    assert source["content_speaker"] > 0.4
    assert all(math.isfinite(value) for value in list(student.values())[1:])
    first = read_json(tmp_path / "samples" / "utterances.json")[0]
    assert [each["label"] for each in first["versions"]] == ["original", "converted", "true"]
    assert (tmp_path / "samples" / "utterance_0_converted.flac").is_file()


def test_the_true_conversion_is_at_no_distance(data):
    """A recording of the target in its own voice is its own conversion."""
    own = next(each for each in data.training_utterances() if each.speaker == "formant001")
    again = data.parallel(own, "formant001")
    assert torch.equal(own.read(), again.read())


def test_probes_and_places():
    rows = torch.cat([torch.randn(40, 3) + 5, torch.randn(40, 3)])
    labels = torch.arange(80) // 40
    assert FittedProbe(rows, labels).right(rows, labels) == 1.0
    assert FittedProbe(rows, labels).right(rows, 1 - labels) == 0.0
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 10).tolist() == [0, 1, 2]
    mel = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert voice_row(mel).tolist() == [2.0, 2.0, 1.0, 0.0]
    assert torch.equal(voice_row(mel), voice_row(mel.flip(0)))


def test_what_cannot_be_measured_is_refused_before_training(data):
    with pytest.raises(InputError, match="utterances of at least 1"):
        ConversionReport(utterances=0)
    with pytest.raises(InputError, match="trains a converter, found Linear"):
        ConversionReport().setup(trainer(data), torch.nn.Linear(1, 1), "fit")
    with pytest.raises(InputError, match="other voices are known"):
        ConversionReport().setup(trainer(SimpleNamespace()), converter(), "fit")


def test_data_of_another_grid_are_refused():
    module = converter()
    module.trainer = SimpleNamespace(datamodule=one_voice(12))
    with pytest.raises(InputError, match="16000 Hz and frames of 320"):
        AdversarialConversion.on_fit_start(module)
