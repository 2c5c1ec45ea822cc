"""``evaluate codec``: folders of any system, checkpoints with several levels, bad input."""

import json
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.codec.quantization import ResidualVQ
from kdlight.codec.seanet import SEANetDecoder, SEANetEncoder
from kdlight.commands import evaluate_codec
from kdlight.metrics.speech.words import normalise
from kdlight.storage.files import save_model
from tests.commands.tiny import Run, last_line
from tests.metrics.speech.signals import RATE, noise, voice

NAMES = ("a/one", "a/two", "three")
OWN = ("si_sdr", "log_mel_l1", "mel_distance", "stft_distance")
TEXTS = {"a/one": "some words", "two": "other words here", "three": "three"}


def write(path: Path, audio: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.numpy(), RATE, subtype="PCM_16")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Originals, what a bad system made of them, transcripts, a small codec, foreign files."""
    folder = tmp_path_factory.mktemp("speech")
    for index, name in enumerate(NAMES):
        audio = voice(1.5, seed=index)
        write(folder / "original" / f"{name}.flac", audio)
        other = torch.cat([audio + noise(len(audio), 0.01, seed=index), torch.zeros(100)])
        write(folder / "other" / f"{name}.wav", other)
        write(folder / "long" / f"{name}.wav", audio.repeat(2))
    write(folder / "few" / "three.wav", audio)
    write(folder / "few" / "four.wav", audio)
    write(folder / "twice" / "x.wav", audio)
    write(folder / "twice" / "x.flac", audio)
    (folder / "empty").mkdir()
    lines = [f"{name}\t{text}" for name, text in TEXTS.items()]
    (folder / "texts.tsv").write_text("\n".join(["utterance\ttext", *lines]))
    (folder / "short.tsv").write_text("three\tthree\n")
    (folder / "bad.tsv").write_text("three three\n")
    torch.manual_seed(0)
    sizes = {"dimension": 8, "n_filters": 4, "ratios": [8, 5, 4, 2], "lstm": 0}
    quantizer = ResidualVQ(8, n_q=4, codebook_size=16)
    codec = Codec(SEANetEncoder(**sizes), quantizer, SEANetDecoder(**sizes), RATE, 320)
    codec.train()
    codec(torch.stack([voice(1.0, seed=seed) for seed in range(4)])[:, None])
    save_model(codec.eval(), folder / "codec.safetensors")
    save_model(quantizer, folder / "quantizer.safetensors")
    return folder


def read(folder: Path, name: str, suffix: str) -> Tensor:
    return torch.from_numpy(soundfile.read(folder / f"{name}{suffix}", dtype="float32")[0])


def test_a_folder_is_what_the_packages_say(kdlight: Run, folders: Path, tmp_path: Path) -> None:
    pesq = pytest.importorskip("pesq")
    pystoi = pytest.importorskip("pystoi")
    visqol = pytest.importorskip("visqol")
    pytest.importorskip("ai_edge_litert")
    output, jsonl = tmp_path / "out" / "figures.json", tmp_path / "rows.jsonl"
    found = kdlight(
        "evaluate", "codec", "--reference", folders / "original", "--degraded", folders / "other",
        "--metrics", "pesq_wb", "stoi", "visqol", "visqol_polynomial",
        "--output", output, "--jsonl", jsonl,
    )  # fmt: skip
    assert found.code == 0, found.err
    assert last_line(found.out) == output
    (row,) = json.loads(output.read_text())
    lines = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert [line["utterance"] for line in lines] == sorted(NAMES)
    mappings = {"visqol_lattice": True, "visqol_polynomial": False}
    apis = {name: visqol.VisqolApi() for name in mappings}
    for name, lattice in mappings.items():
        apis[name].create(mode="speech", use_lattice_model=lattice)
        assert name in found.out
    expected: dict[str, list[float]] = {name: [] for name in ("pesq_wb", "stoi", *mappings)}
    for line in lines:
        clean = read(folders / "original", line["utterance"], ".flac").double().numpy()
        other = read(folders / "other", line["utterance"], ".wav").double().numpy()
        other = other[: len(clean)]
        expected["pesq_wb"].append(pesq.pesq(RATE, clean, other, "wb"))
        expected["stoi"].append(pystoi.stoi(clean, other, RATE))
        for name, api in apis.items():
            expected[name].append(api.measure_from_arrays(clean, other, RATE).moslqo)
        assert line["longer"] == pytest.approx(100 / RATE)
    for name, values in expected.items():
        assert [line[name] for line in lines] == pytest.approx(values, abs=1e-3)
        assert row[name] == pytest.approx(sum(values) / len(values), abs=1e-3)
        assert row["summary"][name]["count"] == 3
    assert row["model"] == "other"
    assert "P.862.2" in row["provenance"]["pesq_wb"]["about"]


def test_word_errors_are_those_of_jiwer(kdlight: Run, folders: Path, tmp_path: Path) -> None:
    jiwer = pytest.importorskip("jiwer")
    pytest.importorskip("pocketsphinx")
    output, jsonl = tmp_path / "figures.json", tmp_path / "rows.jsonl"
    found = kdlight(
        "evaluate", "codec", "--reference", folders / "original", "--degraded", folders / "other",
        "--metrics", "wer", "--recogniser", "pocketsphinx",
        "--transcripts", folders / "texts.tsv", "--output", output, "--jsonl", jsonl,
    )  # fmt: skip
    assert found.code == 0, found.err
    heard = {line["utterance"]: line for line in map(json.loads, jsonl.open())}
    truths = [normalise(TEXTS.get(name, TEXTS.get(name[2:], ""))) for name in heard]
    hypotheses = [normalise(line["hypothesis"]) for line in heard.values()]
    (row,) = json.loads(output.read_text())
    assert row["wer"] == pytest.approx(jiwer.wer(truths, hypotheses), abs=1e-3)
    assert row["wil"] == pytest.approx(jiwer.wil(truths, hypotheses), abs=1e-3)
    assert row["cer"] == pytest.approx(jiwer.cer(truths, hypotheses), abs=1e-3)
    assert row["provenance"]["wer"]["recogniser_language"] == "en"
    each = [jiwer.wer(*sides) for sides in zip(truths, hypotheses, strict=True)]
    assert row["summary"]["wer"]["mean"] == pytest.approx(sum(each) / 3, abs=1e-3)


def test_what_an_original_says_does_not_depend_on_its_system(
    kdlight: Run, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jiwer")
    heard: list[Tensor] = []

    class Listener:
        provenance = {"model": "listener"}

        def transcribe(self, audio: Tensor, sample_rate: int) -> str:
            heard.append(audio)
            return "so"

    monkeypatch.setattr(evaluate_codec, "make_recogniser", lambda *_: Listener())
    longer = read(folders / "other", "three", ".wav")
    write(tmp_path / "original" / "a.wav", longer[:RATE])
    write(tmp_path / "longer" / "a.wav", longer[: RATE + 300])
    write(tmp_path / "shorter" / "a.wav", longer[: RATE - 300])
    for name, rate in (("longer", 16_000), ("shorter", 8_000)):
        found = kdlight(
            "evaluate", "codec", "--reference", tmp_path / "original", "--degraded",
            tmp_path / name, "--metrics", "wer_reference", "--sample-rate", rate,
        )  # fmt: skip
        assert found.code == 0, found.err
    assert [len(audio) for audio in heard] == [RATE + 300, RATE, RATE - 300, RATE]
    assert torch.equal(heard[1], heard[3])
    found = kdlight(
        "evaluate", "codec", "--reference", tmp_path / "original", "--checkpoint",
        folders / "codec.safetensors", "--metrics", "wer_reference", "--n-q", 1,
    )  # fmt: skip
    assert found.code == 0, found.err
    assert torch.equal(heard[5], heard[1])


def test_the_originals_themselves_are_perfect(kdlight: Run, folders: Path, tmp_path: Path) -> None:
    found = kdlight(
        "evaluate", "codec", "--reference", folders / "original",
        "--degraded", folders / "original", "--metrics", *OWN, "--limit", 2,
        "--output", tmp_path / "figures.json",
    )  # fmt: skip
    assert found.code == 0, found.err
    (row,) = json.loads((tmp_path / "figures.json").read_text())
    assert [row[name] for name in OWN[1:]] == [0.0, 0.0, 0.0]
    assert row["si_sdr"] > 60
    assert row["utterances"] == 2


def test_figures_that_cannot_be_computed_are_counted(
    kdlight: Run, folders: Path, tmp_path: Path
) -> None:
    write(tmp_path / "quiet" / "three.wav", torch.zeros(int(1.5 * RATE)))
    write(tmp_path / "original" / "three.wav", voice(1.5))
    found = kdlight(
        "evaluate", "codec", "--reference", tmp_path / "original", "--degraded",
        tmp_path / "quiet", "--metrics", *OWN, "--output", tmp_path / "figures.json",
    )  # fmt: skip
    assert found.code == 0, found.err
    assert "nan [nan, nan], 1 NaN" in found.out
    (row,) = json.loads((tmp_path / "figures.json").read_text())
    assert row["si_sdr"] is None
    assert (row["summary"]["si_sdr"]["count"], row["summary"]["si_sdr"]["nan"]) == (0, 1)
    assert row["log_mel_l1"] > 0


def test_a_codec_gets_a_row_for_each_number_of_levels(
    kdlight: Run, folders: Path, tmp_path: Path
) -> None:
    output, jsonl = tmp_path / "figures.json", tmp_path / "rows.jsonl"
    found = kdlight(
        "evaluate", "codec", "--reference", folders / "original",
        "--checkpoint", folders / "codec.safetensors", "--metrics", *OWN,
        "--n-q", 4, 1, "--output", output, "--jsonl", jsonl,
    )  # fmt: skip
    assert found.code == 0, found.err
    rows = json.loads(output.read_text())
    assert [row["n_q"] for row in rows] == [1, 4]
    for row in rows:
        assert row["bitrate"] == pytest.approx(row["n_q"] * 4 * 50)
        assert row["frames"] == 3 * 75
        assert row["entropy_bitrate_total"] <= row["bitrate"] + 1e-9
        for name in ("usage", "perplexity", "expired", "match", "entropy_bitrate"):
            assert len(row[name]) == row["n_q"]
        assert all(0 <= share <= 1 for share in row["usage"] + row["match"] + row["expired"])
        assert row["rtf_encode_cpu"] > 0
        assert row["rtf_decode_wall"] > 0
    # A level's statistics do not depend on the levels behind it.
    assert rows[0]["usage"][0] == rows[1]["usage"][0]
    lines = [json.loads(line) for line in jsonl.open()]
    assert [(line["n_q"], line["utterance"]) for line in lines] == [
        (n_q, name) for n_q in (1, 4) for name in sorted(NAMES)
    ]
    assert "codec, n_q 4" in found.out


CODEC = "evaluate codec --reference DIR/original"
BAD = {
    "evaluate codec": ["--reference"],
    CODEC: ["--degraded", "--checkpoint"],
    f"{CODEC} --degraded DIR/nowhere": ["nowhere: expected a folder"],
    f"{CODEC} --degraded DIR/empty": ["empty: expected audio files"],
    f"{CODEC} --degraded DIR/few": ["2 missing (a/one, a/two)", "1 others (four)"],
    f"{CODEC} --degraded DIR/long": ["a/one.wav: expected the 1.500 s", "found 3.000 s"],
    "evaluate codec --reference DIR/twice --degraded DIR/few": ["expected one file called x"],
    f"{CODEC} --degraded DIR/other --metrics peks": ["'peks'", "pesq_wb"],
    f"{CODEC} --degraded DIR/other --metrics wer": ["--metrics wer: expected --transcripts"],
    f"{CODEC} --degraded DIR/other --transcripts DIR/short.tsv": ["short.tsv", "line for a/one"],
    f"{CODEC} --degraded DIR/other --transcripts DIR/bad.tsv": ["bad.tsv: line 1", "a tab"],
    f"{CODEC} --degraded DIR/other --transcripts DIR/no.tsv": ["no.tsv: no such file"],
    f"{CODEC} --degraded DIR/other --recogniser ears": ["--recogniser", "'ears'"],
    f"{CODEC} --degraded DIR/other --language xx": ["language: expected a code", "'xx'"],
    f"{CODEC} --degraded DIR/other --recogniser pocketsphinx --language de": ["hears, found de"],
    f"{CODEC} --degraded DIR/other --normaliser x": ["--normaliser", "english", "'x'"],
    f"{CODEC} --degraded DIR/other --n-q 1": ["--n-q: expected a --checkpoint"],
    f"{CODEC} --degraded DIR/other --model x": ["--model: expected a --checkpoint"],
    f"{CODEC} --degraded DIR/other --output x.csv": ["x.csv", ".json"],
    f"{CODEC} --degraded DIR/other --jsonl x.json": ["--jsonl", "x.json", ".jsonl"],
    f"{CODEC} --degraded DIR/other --sample-rate 0": ["--sample-rate", "above 0"],
    f"{CODEC} --checkpoint DIR/codec.safetensors --n-q 5": ["--n-q: expected at most 4", "found 5"],
    f"{CODEC} --checkpoint DIR/codec.safetensors --sample-rate 8000": ["--sample-rate: a check"],
    f"{CODEC} --checkpoint DIR/codec.safetensors --model x": ["a codec called 'x'", "found codec"],
    f"{CODEC} --checkpoint DIR/quantizer.safetensors": ["expected a codec, found ResidualVQ"],
    f"{CODEC} --checkpoint DIR/nowhere.ckpt": ["nowhere.ckpt: no such file"],
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_sentence(
    words: str, kdlight: Run, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = kdlight(*words.replace("DIR", str(folders)).split())
    assert found.code == 2
    assert len(found.err.strip().splitlines()) == 1
    for word in BAD[words]:
        assert word in found.err
    assert not list(tmp_path.iterdir())


def test_channels_are_mixed_and_that_is_said(kdlight: Run, tmp_path: Path) -> None:
    audio = voice(0.5)
    write(tmp_path / "mono" / "x.wav", audio)
    write(tmp_path / "stereo" / "x.wav", torch.stack([0.9 * audio, 1.1 * audio], dim=1))
    words = ["--reference", tmp_path / "mono", "--degraded", tmp_path / "stereo"]
    words += ["--metrics", "si_sdr", "--output", tmp_path / "y.json"]
    with pytest.warns(UserWarning, match="1 of 2 files have several channels; their mean"):
        assert kdlight("evaluate", "codec", *words).code == 0
    (row,) = json.loads((tmp_path / "y.json").read_text())
    assert row["si_sdr"] > 30


def test_help_has_an_example(kdlight: Run) -> None:
    found = kdlight("evaluate", "codec", "--help")
    assert found.code == 0
    assert "example:\n  python -m kdlight evaluate codec --checkpoint" in found.out
