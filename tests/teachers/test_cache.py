"""Features on disk: the same bits, never stale, whole or absent, shared."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdlight.errors import InputError
from kdlight.storage.audio import write_audio
from kdlight.storage.files import sha256_of
from kdlight.teachers.cache import FeatureCache
from kdlight.teachers.frames import FrameTeacher, FrozenTeacher


class Loudness(FrameTeacher):
    """Mean and mean square of each frame, through weights that can change."""

    def __init__(self, layer: int = 1, sample_rate: int = 16_000) -> None:
        super().__init__()
        self.asked = 0
        self.layer = layer
        self.sample_rate, self.hop_length, self.width = sample_rate, 320, 2
        self.weight = torch.nn.Parameter(torch.tensor([1 / 3, 1.0]))
        self.freeze()

    def states(self, audio: Tensor) -> Tensor:
        self.asked += 1
        frames = torch.nn.functional.pad(audio, (0, -audio.shape[1] % 320)).unflatten(1, (-1, 320))
        return self.layer * self.weight * torch.stack([frames.mean(2), frames.square().mean(2)], 2)


class Letters(FrozenTeacher):
    """Texts as codes of their letters, with a vector for the whole."""

    def describe(self, source: Path | str) -> dict[str, Tensor]:
        codes = torch.tensor([ord(letter) for letter in str(source)])
        return {"states": codes[:, None] / 7, "tokens": codes > 32, "sentence": codes[:3] / 7}


def audio_file(path: Path, samples: int = 16_000, seed: int = 0) -> Path:
    noise = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))
    write_audio(path, noise, 16_000)
    return path


def test_what_is_read_is_what_was_computed(tmp_path: Path) -> None:
    audio, teacher = audio_file(tmp_path / "a.wav"), Loudness()
    online = teacher.describe(audio)["features"]
    cache = FeatureCache(tmp_path / "cache", teacher, "float32")
    assert torch.equal(cache.get(audio)["features"], online)
    assert torch.equal(cache.get(audio)["features"], online)
    assert torch.equal(cache.read(audio)["features"], online)
    assert teacher.asked == 2
    half = FeatureCache(tmp_path / "cache", teacher, "float16")
    assert half.key != cache.key
    first, again = half.get(audio)["features"], half.read(audio)["features"]
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert torch.equal(first, online.half().float())


def test_a_crop_is_a_slice(tmp_path: Path) -> None:
    audio = audio_file(tmp_path / "a.wav")
    cache = FeatureCache(tmp_path / "cache", Loudness())
    whole = cache.get(audio)["features"]
    assert torch.equal(cache.read(audio, 10, 7)["features"], whole[10:17])
    assert len(cache.read(audio, 45, 20)["features"]) == 5


def test_what_changed_is_noticed(tmp_path: Path) -> None:
    audio = audio_file(tmp_path / "a.wav")
    cache = FeatureCache(tmp_path / "cache", Loudness())
    cache.fill([audio])
    changed: dict[str, Any] = {
        "layer": Loudness(layer=2),
        "rate": Loudness(sample_rate=8000),
        "weights": Loudness(),
    }
    changed["weights"].weight.data[0] += 1e-6
    for teacher in changed.values():
        with pytest.raises(InputError, match="another teacher or setting, or the file has changed"):
            FeatureCache(tmp_path / "cache", teacher).read(audio)
    FeatureCache(tmp_path / "cache", Loudness()).read(audio)
    audio_file(audio, seed=1)
    with pytest.raises(InputError, match=r"a\.wav: no features of this teacher"):
        cache.read(audio)
    assert cache.fill([audio]) == 1


def test_a_file_under_another_name_is_the_same_file(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", Loudness())
    cache.fill([audio_file(tmp_path / "a.wav")])
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    assert cache.fill([tmp_path / "b.wav"]) == 0


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    files = [audio_file(tmp_path / f"{k}.wav", 3200, seed=k) for k in range(5)]
    teacher = Loudness()
    cache = FeatureCache(tmp_path / "cache", teacher)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"broken\.wav"):
        cache.fill([*files[:3], tmp_path / "broken.wav", *files[3:]])
    assert teacher.asked == 3
    assert cache.fill(files) == 2
    assert FeatureCache(tmp_path / "cache", Loudness()).fill(files) == 0
    assert not list((tmp_path / "cache").rglob(".*"))


def test_processes_share_the_work(tmp_path: Path) -> None:
    files = [audio_file(tmp_path / f"{k}.wav", 3200, seed=k) for k in range(5)]
    ranks = [FeatureCache(tmp_path / "cache", Loudness()) for _ in range(2)]
    assert [cache.fill(files, rank, 2) for rank, cache in enumerate(ranks)] == [3, 2]
    for audio in files:
        assert torch.equal(ranks[0].read(audio)["features"], ranks[1].read(audio)["features"])
    with pytest.raises(InputError, match="rank: expected 0 to 1"):
        ranks[0].fill(files, 2, 2)


def test_two_processes_at_once_on_the_same_files(tmp_path: Path) -> None:
    files = [audio_file(tmp_path / f"{k}.wav", 3200, seed=k) for k in range(8)]
    program = (
        "import sys; from pathlib import Path; from tests.teachers.test_cache import *\n"
        "folder = Path(sys.argv[1]); cache = FeatureCache(folder / 'cache', Loudness())\n"
        "cache.fill(sorted(folder.glob('*.wav')))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    runs = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    found = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert [path.stem for path in found] == sorted(sha256_of(audio) for audio in files)
    assert all(load_file(path)["features"].shape == (10, 2) for path in found)


def test_texts(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, Letters(), "float32")
    found = cache.get("a bc")
    for name, tensor in Letters().describe("a bc").items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    crop = cache.read("a bc", 1, 2)
    assert len(crop["states"]) == 2
    assert len(crop["sentence"]) == 3


def test_a_damaged_or_misplaced_file_is_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", Loudness())
    a, b = (audio_file(tmp_path / f"{name}.wav", seed=k) for k, name in enumerate("ab"))
    cache.fill([a, b])
    shutil.copy(cache.path(a), cache.path(b))
    with pytest.raises(InputError, match="expected content .*: delete the file"):
        cache.read(b)
    cache.path(a).write_bytes(cache.path(a).read_bytes()[:-10])
    with pytest.raises(InputError, match="truncated or damaged"):
        cache.read(a)
    other = FeatureCache(tmp_path / "cache", Loudness(layer=2))
    other.fill([a])
    shutil.copy(other.path(a), cache.path(a))
    with pytest.raises(InputError, match="expected key"):
        cache.read(a)


def test_what_no_half_can_hold_is_refused(tmp_path: Path) -> None:
    audio, teacher = audio_file(tmp_path / "a.wav"), Loudness()
    teacher.weight.data[:] = 1e9
    with pytest.raises(InputError, match=r"a\.wav: expected features that torch\.float16 can hold"):
        FeatureCache(tmp_path, teacher).fill([audio])
    FeatureCache(tmp_path, teacher, "float32").fill([audio])
    teacher.weight.data[:] = torch.nan
    with pytest.raises(InputError, match="found nan"):
        FeatureCache(tmp_path, teacher, "float32").fill([audio])
    with pytest.raises(InputError, match="dtype"):
        FeatureCache(tmp_path, teacher, "int8")  # type: ignore[arg-type]
