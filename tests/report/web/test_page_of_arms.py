"""The page over several runs in a real browser: verdicts first, arms side by side."""

import itertools
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def column_of_runs(page, index: int) -> list[str]:
    cells = page.every(f"#runs tbody td:nth-child({index})")
    return [cell.text.splitlines()[0].split("/")[0] for cell in cells]


def test_runs_sort_and_choose_and_verdicts_show(opened, page, make_run):
    arms = {"ours": (1.0, 1.02, 0.98), "off": (1.5, 1.6, 1.55)}
    runs = [make_run(name, seed, q) for name, qs in arms.items() for seed, q in enumerate(qs)]
    opened(*runs, baseline="off")
    assert "BEATS" in page.find("#verdicts tbody tr").text
    key = "#runs button[data-key='frechet_features']"
    page.find(key).click()
    ascending = [float(text) for text in column_of_runs(page, 3)]
    assert ascending == sorted(ascending)
    assert column_of_runs(page, 1) == ["ours"] * 3 + ["off"] * 3
    page.find(key).click()
    assert [float(text) for text in column_of_runs(page, 3)] == ascending[::-1]
    assert page.find("#runs th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.choose("Model and steps", "student|4")
    assert max(float(text) for text in column_of_runs(page, 3)) == 0.816
    page.find("#runs tbody tr:first-child td:first-child button").click()
    assert page.find("#run-name").text == "off/version_1"


def few_step_arms(make_run, count: int = 8) -> list[Path]:
    """Arms of three seeds, each better than the one before it by a tenth."""
    return [
        make_run(f"arm{index}", seed, 0.9**index * (1 + 0.01 * seed))
        for index in range(count)
        for seed in range(3)
    ]


def test_arms_stand_side_by_side_at_both_steps(opened, page, make_run):
    opened(*few_step_arms(make_run), baseline="arm0")
    rows = page.every("#methods tbody tr")
    assert [row.text.split()[0] for row in rows] == [f"arm{n}" for n in range(8)] + [
        "Teacher",
        "Teacher",
        "Floor",
    ]
    cells = [cell.text.splitlines() for cell in rows[1].find_elements("css selector", "td")]
    assert cells[0] == ["arm1", "3 seeds"]
    assert cells[1] == ["0.573", "0.567\u20130.578", "beats"]
    assert cells[2] == ["0.509", "0.504\u20130.514", "beats"]
    assert cells[-2:] == [["3 min 22 s"], ["6,000"]]
    best = page.every("#methods tr[data-arm=arm7] td.best")
    assert [cell.text.split()[0] for cell in best[:2]] == ["0.304", "0.271"]
    assert page.every("#methods tr[data-arm=arm0] .verdict") == []
    assert rows[8].text.split()[1:5] == ["18", "steps,", "35", "NFE"]
    assert rows[8].find_element("css selector", "td:nth-child(2)").text == "0.450"


@pytest.mark.parametrize("width", [1400, 400])
def test_marks_of_eight_arms_do_not_cover_one_another(opened, wide, make_run, width):
    browser = opened(*few_step_arms(make_run), baseline="arm0")
    wide(width)
    marks = """return [...document.querySelectorAll('#arms-chart .mark:not(.hollow)')].map(
        (mark) => { const box = mark.getBBox(); return [box.x + box.width / 2, box.width] })"""
    found = sorted(browser.execute_script(marks))
    assert len(found) == 8 * 3
    centres = [centre for centre, _ in found]
    gaps = [right - left for left, right in itertools.pairwise(centres)]
    assert min(gaps) >= 0.45 * max(size for _, size in found)
    assert 0 < centres[0] < centres[-1] < width


def test_chart_of_arms_reads_out_and_follows_metric_and_name(opened, page, make_run):
    opened(*few_step_arms(make_run, 2), baseline="arm0")
    plot = page.find("#arms-chart .chart")
    assert plot.get_attribute("aria-label").startswith("Fréchet features over network")
    told = set()
    for _ in range(9):
        plot.send_keys("\ue014")  # arrow right
        told.add(page.find("#arms-chart .readout").text)
    assert "arm1, 1 step: 0.573 % (0.567 to 0.578 % over 3 seeds) at 1 NFE" in told
    assert "Teacher, 18 steps (heun): 0.450 % at 35 NFE" in told
    assert len(told) == 9, "three of the teacher, three of either arm"
    page.find("#arms-chart ~ .legend button").click()
    assert len(page.every("#arms-chart g.faded")) == 1
    page.choose("Metric of all arms", "accuracy")
    assert plot.get_attribute("aria-label").startswith("Accuracy over network")


def test_verdicts_follow_their_steps(opened, page, make_run):
    runs = few_step_arms(make_run, 2)
    for folder in runs[3:]:
        rows = json.loads((folder / "summary.json").read_text())
        rows[-2]["frechet_features"] *= 4  # two steps of arm1
        (folder / "summary.json").write_text(json.dumps(rows))
    opened(*runs, baseline="arm0")
    first = "#verdicts tbody tr:first-child .verdict"
    assert page.find(first).text == "BEATS"
    page.find("[aria-label='Steps of the verdicts'] button:nth-child(2)").click()
    assert page.find(first).text == "NO BEATS"
    assert "at 2 steps, against arm0" in page.find("main").text
    small = page.every("#methods tr[data-arm=arm1] small.verdict")
    assert [item.text for item in small] == ["beats", "no beats"]


def test_arms_that_lack_a_teacher_a_step_or_a_summary(opened, page, make_run, tmp_path: Path):
    runs = few_step_arms(make_run, 2)
    for folder in runs[3:]:
        rows = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(rows[-1:]))
    young = tmp_path / "runs" / "young" / "version_0"
    young.mkdir(parents=True)
    (young / "config.yaml").write_text("x: 1\n")
    opened(*runs, young, baseline="arm0")
    assert len(page.every("#methods tbody tr[data-arm]")) == 2
    lacking = page.find("#methods tr[data-arm=arm1] td:nth-child(3)")
    assert lacking.text == "\u2013"


def test_how_soon_is_drawn_and_judged(opened, page, make_run):
    runs = [make_run(name, seed) for name in ("ours", "off") for seed in range(3)]
    for folder in runs[:3]:
        text = (folder / "metrics.csv").read_text().splitlines()
        shift = 1 + int(folder.name[-1])
        soon = [
            line.rpartition(",")[0] + f",{0.1 * shift}"
            if ",,,," in line or line.endswith(",")
            else line
            for line in text[1:]
        ]
        (folder / "metrics.csv").write_text("\n".join([text[0], *soon]) + "\n")
    opened(*runs, baseline="off", reach="iterations")
    (section,) = page.section("Iterations to the quality of off")
    rows = section.find_elements("css selector", "#reach tbody tr")
    assert [row.text.split()[0] for row in rows] == ["ours", "off"]
    assert "BEATS" in rows[0].text
    assert "3 of 3" in rows[0].text
    assert len(section.find_elements("css selector", "#reach-chart polyline")) == 6
    assert "final value of off" in section.find_element("css selector", "#reach-chart svg").text


def test_a_comparison_opens_with_its_verdict(opened, page, make_run):
    opened(*few_step_arms(make_run, 2), baseline="arm0")
    assert page.find("h1").text == "arm1 against arm0"
    said = page.find("header .lede").text
    assert said.startswith(
        "arm1 against arm0: BEATS. Fr\u00e9chet features of the student with 1 step"
    )
    assert "0.573 % against 0.636 %, a ratio of 0.900 (95 % interval 0.880 to 0.920)." in said
    assert said.endswith("The verdict is the same with 2 steps and with 4 steps.")
    titles = [title.text for title in page.every("main h2")]
    assert titles[:3] == ["Verdicts", "Samples side by side", "Arms at few steps"]


def test_many_verdicts_are_a_list(opened, page, make_run):
    opened(*few_step_arms(make_run, 5), make_run("young", 0), baseline="arm0")
    assert page.find("h1").text == "5 arms against arm0"
    assert [item.text for item in page.every("header li")] == [
        "BEATS: arm1, arm2, arm3, arm4",
        "INCONCLUSIVE: young",
    ]


def test_seeds_of_one_arm_have_their_median(opened, page, make_run):
    opened(*(make_run("ours", seed, q) for seed, q in enumerate((1.0, 1.1, 1.2))))
    assert page.find("header .lede").text == (
        "3 runs of 1 arm: nothing to judge. Fr\u00e9chet features of the student with 1 step: "
        "median 0.693 % (0.630 to 0.756 %) over 3 seeds."
    )


def test_samples_of_the_arms_stand_side_by_side(opened, page, make_run):
    opened(*few_step_arms(make_run, 2), baseline="arm0")
    says = "#arms-samples output"
    assert [figure.text for figure in page.every("#arms-samples h3")] == ["arm0", "arm1", "Teacher"]
    assert [output.text for output in page.every(says)] == [
        "seed 0, 1 step\nFr\u00e9chet features 0.630 %",
        "seed 0, 1 step\nFr\u00e9chet features 0.567 %",
        "18 steps\nFr\u00e9chet features 0.450 %",
    ]
    before = [image.get_attribute("src") for image in page.every("#arms-samples img")]
    page.find("[aria-label='Steps of the samples'] button:nth-child(2)").click()
    page.choose("Seed", "1")
    assert page.find(says).text == "seed 1, 2 steps\nFr\u00e9chet features 0.566 %"
    after = [image.get_attribute("src") for image in page.every("#arms-samples img")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_arms_over_unlike_numbers_of_samples_are_parted(opened, page, make_run):
    runs = [make_run(name, seed) for name in ("ours", "off") for seed in range(3)]
    for folder, samples in zip(runs, (500, 2000, 2000, 2000, 2000, 2000), strict=True):
        callback = f"{{class_path: other, init_args: {{num_samples: {samples}}}}}"
        (folder / "config.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}\n")
    opened(*runs, baseline="off")
    names = [row.text.splitlines()[0] for row in page.every("#methods tbody tr[data-arm]")]
    assert names == ["ours (500 samples)", "ours (2000 samples)", "off"]
    assert "measured over 500 samples, off over 2000 samples" in page.find("#verdicts").text
    floors = [row.text.splitlines()[0] for row in page.every("#methods tr.reference")]
    assert [text for text in floors if "Floor" in text] == [
        "Floor of 500 samples",
        "Floor of 2000 samples",
    ]
