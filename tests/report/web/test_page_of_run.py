"""The page of one run in a real browser: what a reader clicks changes what a reader sees."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def test_single_run_renders(opened, page):
    browser = opened()
    assert page.find("h1").text == "quickstart"
    assert "1 step" in page.find(".lede").text
    rows = page.every("#headline tbody tr")
    models = [row.find_element("css selector", "td").text.split()[:2] for row in rows]
    assert models == [
        ["Student", "1"],
        ["Student", "2"],
        ["Student", "4"],
        ["Teacher", "18"],
        ["Teacher", "4"],
        ["Teacher", "1"],
        ["Floor", "real"],
    ]
    assert rows[-1].text.split()[-2:] == ["0.210", "0.380"]
    assert len(page.every("figure img")) == 4
    loaded = "return [...document.images].every((image) => image.naturalWidth > 0)"
    assert browser.execute_script(loaded)
    assert len(page.every(".chart svg")) == 3
    pre = page.find("details pre")
    assert not pre.is_displayed()
    page.unfold("Configuration")
    assert "truncated_snr" in pre.text


def test_the_teachers_curve_unfolds(opened, page, make_run):
    folder = make_run()
    rows = json.loads((folder / "summary.json").read_text())
    rows += [rows[0] | {"steps": steps, "nfe": 2 * steps - 1} for steps in (12, 8, 6)]
    (folder / "summary.json").write_text(json.dumps(rows))
    opened(folder)
    first = [row.text.split("\n")[0] for row in page.every("#headline tbody tr")]
    assert first[3:6] == ["Teacher 18 steps", "Teacher 4 steps", "Teacher 1 step"]
    assert len(first) == 7
    assert "3 rows of the teacher at other steps are among all figures." in page.find("main").text
    page.unfold("All 9 figures")
    assert len(page.every("#figures thead th")) == 1 + 9 + 1


def test_the_best_of_a_figure_alone_is_bold(opened, page):
    opened()
    bold = {row.text.split("\n")[0]: [] for row in page.every("#headline tbody tr")}
    for cell in page.every("#headline .best"):
        row = cell.find_element("xpath", "..")
        bold[row.text.split("\n")[0]].append(cell.text)
    assert bold == {
        "Student 1 step": ["0.0184", "33.2\u00d7"],
        "Student 2 steps": [],
        "Student 4 steps": ["99.6"],
        "Teacher 18 steps": ["0.450", "0.980", "99.6"],
        "Teacher 4 steps": [],
        "Teacher 1 step": [],
        "Floor": [],
    }


def test_every_figure_has_its_word_and_its_floor(opened, page):
    opened()
    page.unfold("All 9 figures")
    rows = {row.text.split("\n")[0]: row for row in page.every("#figures tbody tr")}
    assert len(rows) == 9
    for row in rows.values():
        assert row.find_element("css selector", "small").text.endswith((".", "?"))
    cells = rows["Variance \u2192 1"].find_elements("css selector", "td.best")
    assert [cell.text for cell in cells] == ["0.950"]
    assert rows["Fr\u00e9chet pixels % \u2193"].text.endswith("0.380")


@pytest.mark.parametrize(
    ("slider", "caption"),
    [
        ("progress", "iteration 0"),
        ("final-teacher", "1 step, Fréchet 6.85 %"),
        ("final-student", "1 step, Fréchet 0.630 %"),
    ],
)
def test_slider_changes_the_picture(opened, page, slider, caption):
    browser = opened()
    picture = "return arguments[0].closest('figure').querySelector('img').src"
    page.slide(f"#{slider}", 1)
    before = browser.execute_script(picture, page.find(f"#{slider}"))
    page.slide(f"#{slider}", 0)
    assert browser.execute_script(picture, page.find(f"#{slider}")) != before
    assert page.find(f"output[for='{slider}']").text == caption


def test_selector_and_scale_change_the_curve(opened, page):
    browser = opened()
    line = "return document.querySelector('#curves polyline').getAttribute('points')"
    loss = browser.execute_script(line)
    page.find(".segments button:nth-child(2)").click()
    loss_on_log = browser.execute_script(line)
    page.choose("Logged value", "val/frechet_features")
    distance = browser.execute_script(line)
    assert len({loss, loss_on_log, distance}) == 3
    assert page.find("#curves .chart").get_attribute("aria-label").startswith("val/frechet")


def test_curve_reads_out_under_pointer_and_keys(opened, page):
    from selenium.webdriver import ActionChains

    browser = opened()
    plot = page.find("#curves .chart")
    ActionChains(browser).move_to_element(plot).perform()
    readout = page.find("#curves .readout")
    first = readout.text
    assert first.startswith("iteration 2,8")
    plot.send_keys("\ue014")  # arrow right
    assert readout.text.startswith("iteration 2,8")
    assert readout.text != first


def test_quality_plot_follows_its_metric(opened, page):
    browser = opened()
    label = "return [...document.querySelectorAll('.pair .chart')].map((node) => node.ariaLabel)"
    page.choose("Metric", "frechet_pixels")
    assert browser.execute_script(label) == [
        "Fréchet pixels over network evaluations (NFE)",
        "Fréchet pixels over ms per image",
    ]


def balanced(folder: Path, gan: list[float]) -> Path:
    """The run with two terms measured every 50 iterations, ``kl`` always 2."""
    lines = ["iteration,step,train/loss,balance/kl,balance/gan,balance/ratio,balance/threshold"]
    for index, norm in enumerate(gan, 1):
        ratio = max(2, norm) / min(2, norm) if norm else float("inf")
        lines.append(f"{50 * index},{50 * index},1.0,2.0,{norm},{ratio},100")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_loss_balance_is_drawn_with_its_threshold_and_said(opened, page, make_run):
    opened(balanced(make_run(), [2.0, 0.01, 0.0, 4.0]))
    (section,) = page.section("Loss balance")
    assert "exceeded 100 times the smallest in 2 of 4 measurements" in section.text
    assert "gan had none at all at iteration 150" in section.text
    lines = section.find_elements("css selector", "#norms polyline")
    # A norm of zero has no place on a log axis.
    assert sorted(len(line.get_attribute("points").split()) for line in lines) == [3, 4]
    assert "threshold 100" in section.find_element("css selector", "#ratio svg").text
    plot = section.find_element("css selector", "#norms .chart")
    plot.send_keys("\ue014")  # arrow right
    assert "gan 2.00" in section.find_element("css selector", "#norms .readout").text


def test_no_loss_balance_where_none_was_logged(opened, page):
    opened()
    assert page.section("Loss balance") == []


def test_hostile_values_stay_text(opened, page, make_run):
    folder = make_run()
    (folder / "config.yaml").write_text("</script><img src=x onerror=document.title='owned'>")
    browser = opened(folder)
    page.unfold("Configuration")
    assert "onerror" in page.find("details pre").text
    assert browser.title == "quickstart - kdlight"


def test_run_that_just_began(opened, page, tmp_path: Path):
    folder = tmp_path / "young" / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 0\n")
    opened(folder)
    assert page.find("h1").text == "young"
    assert "no summary yet" in page.find("main").text


def test_teacher_alone_with_one_grid(opened, page, make_run):
    folder = make_run()
    rows = [{"model": "teacher", "steps": 18, "frechet_features": 0.4, "kernel_features": -0.02}]
    (folder / "summary.json").write_text(json.dumps(rows))
    for path in (folder / "samples").glob("*"):
        if path.name != "final_teacher_18.png":
            path.unlink()
    opened(folder)
    assert len(page.every("#headline tbody tr")) == 1
    page.unfold("All 2 figures")
    assert "-0.0200" in page.find("#figures").text
    assert len(page.every("figure img")) == 1
    assert page.every("input[type=range]") == []
