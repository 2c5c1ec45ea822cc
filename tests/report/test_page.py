import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdlight.errors import InputError
from kdlight.report.page import MAX_PROGRESS, embed, write_report

HOSTILE = "</script><script>alert(1)</script><!-- {{data}} & \"'"


def data_of(page: Path):
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(match[1])


def test_page_holds_everything_and_asks_for_nothing(make_run, tmp_path: Path):
    page = write_report([make_run()], tmp_path / "out" / "report.html")
    text = page.read_text()
    (run,) = data_of(page)["runs"]
    assert len(run["finals"]) == 5
    assert run["rows"][-1]["values"]["frechet_features"] == 0.63
    assert "truncated_snr   # max(snr, 1)" in run["config"]
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    assert str(tmp_path) not in text, "no path of the machine that wrote it"
    assert [item.name for item in page.parent.iterdir()] == ["report.html"]


def test_values_from_a_run_cannot_leave_their_place(make_run, tmp_path: Path):
    folder = make_run()
    facts = json.loads((folder / "run.json").read_text()) | {"name": HOSTILE, "commit": HOSTILE}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(HOSTILE)
    page = write_report([folder], tmp_path / "report.html")
    text = page.read_text()
    assert "alert(1)</script>" not in text
    assert text.count("<script") == 2
    assert "<title>&lt;/script&gt;" in text
    (run,) = data_of(page)["runs"]
    assert run["name"] == run["commit"] == run["config"] == HOSTILE


def test_embedded_json_is_the_same_json():
    value = {"<a>": ["&amp;", HOSTILE, 0.1, None]}
    assert json.loads(embed(value)) == value
    assert not set(embed(value)) & set("<>&")


def test_many_progress_grids_are_thinned_with_both_ends(make_run, tmp_path: Path):
    folder = make_run()
    source = (folder / "samples" / "progress_0000000.png").read_bytes()
    for iteration in range(1, 200):
        (folder / "samples" / f"progress_{iteration:07d}.png").write_bytes(source)
    (run,) = data_of(write_report([folder], tmp_path / "report.html"))["runs"]
    iterations = [picture["at"] for picture in run["progress"]]
    assert len(set(iterations)) == MAX_PROGRESS
    assert (iterations[0], iterations[-1]) == (0, 6000)
    assert run["notes"] == [f"{MAX_PROGRESS} of 204 progress grids are shown."]


def test_bad_output_or_run_writes_nothing(make_run, tmp_path: Path):
    run = make_run()
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_report([run], tmp_path / "report.pdf")
    with pytest.raises(InputError, match="expected a run folder"):
        write_report([run, tmp_path], tmp_path / "report.html")
    with pytest.raises(InputError, match="at least one run folder"):
        write_report([], tmp_path / "report.html")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["runs"]


def test_report_starts_without_torch():
    code = "import sys, kdlight.report.page, kdlight.report.table; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
